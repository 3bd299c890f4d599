"""The position of every partition before and after a moment."""

from processors.log.reader import LogReader
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy
from tables.history.point_in_time import AtRecords, AtTime, Moment


def positions_from(log: LogReader, moment: Moment) -> Positions:
    """The positions of the first records at or after a moment. Raises Unreachable, Discrepancy."""
    if isinstance(moment, AtTime):
        return log.offsets_since(moment.ms)
    named = _positions_named(log, moment, after=0)
    return {**log.offsets_since(_time_of(log, moment)), **named}


def positions_after(log: LogReader, moment: Moment) -> Positions:
    """The positions after the last records at a moment. Raises Unreachable, Discrepancy."""
    if isinstance(moment, AtTime):
        return log.offsets_since(moment.ms + 1)
    named = _positions_named(log, moment, after=1)
    return {**log.offsets_since(_time_of(log, moment) + 1), **named}


def _positions_named(log: LogReader, moment: AtRecords, after: int) -> Positions:
    """The offset of the newest named record of each partition, plus `after`.

    Raises Discrepancy if the log does not have such an offset.
    """
    retained, named = log.offset_ranges(), dict[Partition, int]()
    for at in moment.records:
        partition = Partition(at.topic, at.partition)
        if partition not in retained:
            raise Discrepancy(f"{at} is in none of the partitions that are read")
        low, end = retained[partition]
        if not low <= at.offset < end:
            raise Discrepancy(f"{at} is not in the log, which has [{low}, {end}) of that partition")
        named[partition] = max(named.get(partition, 0), at.offset + after)
    return named


def _time_of(log: LogReader, moment: AtRecords) -> int:
    """The append time of the newest named record, in ms since the epoch. Raises Unreachable, Discrepancy."""
    starts = {Partition(at.topic, at.partition): at.offset for at in sorted(moment.records)}
    log.seek(starts)
    ends = {partition: offset + 1 for partition, offset in starts.items()}
    times = [record.appended_at_ms for record in log.records_until(ends)]
    if not times:
        raise Discrepancy(
            "the named records are not in the log: control records, aborted or compacted"
        )
    return max(times)
