"""What a run of verify looks at: which requests, and how far each topic is read; taken once, before anything is read.

The order in which the ends are taken keeps a log that goes on growing from looking wrong:
1. committed offsets: below them every request has its outcome or its entry in the parked topic
2. the ends of the requests and of the parked topic  3. the ends of the outcomes, high watermarks: what an entry of 2
has lost to an outcome is found  4. the ends of the uploads, past every position that an outcome tells, and the high
watermarks of the requests, past every one that has an outcome
"""

from dataclasses import dataclass

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.partitions import partitions_of
from processors.kafka.topic_admin import checked_topics
from processors.log.offsets_at import positions_after, positions_from
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from tables.history.point_in_time import Moment

CLOCKS_MS = 60_000  # outcomes are looked for from so long before the first request on

COORDINATOR_S = 30.0  # the first group of a cluster has to wait for its topic


@dataclass(frozen=True, slots=True)
class ScanRange:
    """Positions by partition, `[begin, end)`; of requests, retained is where the log itself begins."""

    retained: Positions
    requests: Positions
    requests_end: Positions
    requests_high: Positions  # beyond them nothing stood when every outcome that is read was there
    committed: Positions
    parked: Positions
    parked_end: Positions
    outcomes: Positions
    outcomes_end: Positions
    outcomes_retained: Positions
    uploads_end: Positions


def scan_range_of(settings: Settings, since: Moment | None, until: Moment | None) -> ScanRange:
    """What stands now, between two moments of the requests. Raises Unreachable, Discrepancy."""
    admin, topics = admin_client(settings), settings.topics
    checked_topics(admin, settings)
    asked = partitions_of([topics.requests.name], settings)
    parked = partitions_of([topics.parked.name], settings)
    outcomes = partitions_of((topic.name for topic in topics.outcomes), settings)
    uploads = partitions_of((topic.name for topic in topics.uploads), settings)
    committed = retry_while_unreachable(  # 1
        lambda: committed_offsets(settings, settings.prep_group, asked),
        COORDINATOR_S,
        f"the coordinator of group {settings.prep_group}",
    )
    with LogReader(settings, asked) as log:
        found = log.offset_ranges()  # 2
        retained, ends = ({one: both[side] for one, both in found.items()} for side in (0, 1))
        begin = positions_from(log, since) if since else retained
        end = positions_after(log, until) if until else ends
    parked_end = high_watermarks_when_reachable(settings, parked)
    outcomes_end = high_watermarks_when_reachable(settings, outcomes)  # 3
    uploads_end = high_watermarks_when_reachable(settings, uploads)  # 4
    requests_high = high_watermarks_when_reachable(settings, asked)
    begin = {one: max(at, retained[one]) for one, at in begin.items()}
    with LogReader(settings, [*parked, *outcomes]) as log:
        kept = {one: low for one, (low, _) in log.offset_ranges().items()}
    outcomes_retained = {one: kept[one] for one in outcomes}
    return ScanRange(
        retained=retained,
        requests=begin,
        requests_high=requests_high,
        requests_end={one: min(max(at, begin[one]), ends[one]) for one, at in end.items()},
        committed=committed,
        parked={one: kept[one] for one in parked},
        parked_end=parked_end,
        outcomes=outcomes_retained if since is None else _since(settings, begin, outcomes_end),
        outcomes_end=outcomes_end,
        outcomes_retained=outcomes_retained,
        uploads_end=uploads_end,
    )


def _since(settings: Settings, begin: Positions, ends: Positions) -> Positions:
    """Where outcomes of requests from these positions on may stand: not before the first of them was appended."""
    first_ms = None
    with LogReader(settings, begin) as log:
        for one, (_, end) in log.offset_ranges().items():
            if begin[one] < end:
                log.seek({one: begin[one]})
                found = next(iter(log.records_until({one: end})), None)
                if found is not None:
                    first_ms = min(first_ms or found.appended_at_ms, found.appended_at_ms)
    with LogReader(settings, ends) as log:
        if first_ms is None:
            return {one: low for one, (low, _) in log.offset_ranges().items()}
        return log.offsets_since(first_ms - CLOCKS_MS)


def of_partition(positions: Positions, number: int) -> dict[Partition, int]:
    """Those of one partition number."""
    return {one: at for one, at in positions.items() if one.partition == number}
