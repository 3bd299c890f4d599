"""Where a moment stands in the log: the position of every partition, before it and after it."""

from processors.log.reader import LogReader
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy
from tables.history.point_in_time import AtRecords, AtTime, Moment


def positions_from(log: LogReader, moment: Moment) -> Positions:
    """Where reading from a moment on begins: the first record at it, or after it. Raises Unreachable, Discrepancy."""
    if isinstance(moment, AtTime):
        return log.offsets_since(moment.ms)
    named = _named(log, moment, after=0)
    return {**log.offsets_since(_time_of(log, moment)), **named}


def positions_after(log: LogReader, moment: Moment) -> Positions:
    """Where reading up to a moment ends: past the last record at it. Raises Unreachable, Discrepancy."""
    if isinstance(moment, AtTime):
        return log.offsets_since(moment.ms + 1)
    named = _named(log, moment, after=1)
    return {**log.offsets_since(_time_of(log, moment) + 1), **named}


def _named(log: LogReader, moment: AtRecords, after: int) -> Positions:
    """The newest named record of each partition. Raises Discrepancy where the log has no such offset."""
    retained, named = log.offset_ranges(), dict[Partition, int]()
    for at in moment.records:
        one = Partition(at.topic, at.partition)
        if one not in retained:
            raise Discrepancy(f"{at} is in none of the partitions that are read")
        low, end = retained[one]
        if not low <= at.offset < end:
            raise Discrepancy(f"{at} is not in the log: it has [{low}, {end}) of that partition")
        named[one] = max(named.get(one, 0), at.offset + after)
    return named


def _time_of(log: LogReader, moment: AtRecords) -> int:
    """When the newest of the records was appended."""
    starts = {Partition(at.topic, at.partition): at.offset for at in sorted(moment.records)}
    log.seek(starts)
    ends = {one: offset + 1 for one, offset in starts.items()}
    times = [record.appended_at_ms for record in log.records_until(ends)]
    if not times:
        raise Discrepancy("the records named are not in the log: a marker, aborted or compacted")
    return max(times)
