"""What a run of verify reads: which requests, and each topic up to which offset; taken once, before anything is read.

The ends are taken in this order, so that a log that keeps growing does not look wrong:
1. The committed offsets: every request below them has its outcome or its entry in the parked topic.
2. The ends of the requests and of the parked topic.
3. The high watermarks of the outcomes: if a parked entry of step 2 has been released since, its outcome is below them.
4. The high watermarks of the uploads, past every position in an outcome's header, and those of the requests, past
   every request that has an outcome.
"""

from collections.abc import Container
from dataclasses import dataclass

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import admin_client
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.topic_admin import checked_topics
from processors.log.offsets_at import positions_after, positions_from
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from tables.history.point_in_time import Moment

CLOCK_TOLERANCE_MS = 60_000  # outcomes are read from this long before the first request

COORDINATOR_S = 30.0  # the first group of a cluster waits until Kafka has created its offsets topic


@dataclass(frozen=True, slots=True)
class ScanRange:
    """Positions by partition, as `[from, end)`; `retained` is the first offset of the log of requests."""

    retained: Positions
    requests: Positions
    requests_end: Positions
    requests_high: Positions  # every outcome that is read has its request below them
    committed: Positions
    parked: Positions
    parked_end: Positions
    outcomes: Positions
    outcomes_end: Positions
    outcomes_retained: Positions
    uploads_end: Positions


def scan_range_of(settings: Settings, since: Moment | None, until: Moment | None) -> ScanRange:
    """The current range, for the requests between two moments. Raises Unreachable, Discrepancy."""
    admin, topics = admin_client(settings), settings.topics
    checked_topics(admin, settings)
    requests = settings.partitions_of(topics.requests)
    parked = settings.partitions_of(topics.parked)
    outcomes = settings.partitions_of(*topics.outcomes)
    uploads = settings.partitions_of(*topics.uploads)
    committed = retry_while_unreachable(  # 1
        lambda: committed_offsets(settings, settings.prep_group, requests),
        COORDINATOR_S,
        f"the coordinator of group {settings.prep_group}",
    )
    with LogReader(settings, requests) as log:
        ranges = log.offset_ranges()  # 2
        retained, ends = (
            {partition: offsets[side] for partition, offsets in ranges.items()} for side in (0, 1)
        )
        start = positions_from(log, since) if since else retained
        end = positions_after(log, until) if until else ends
    parked_end = high_watermarks_when_reachable(settings, parked)
    outcomes_end = high_watermarks_when_reachable(settings, outcomes)  # 3
    uploads_end = high_watermarks_when_reachable(settings, uploads)  # 4
    requests_high = high_watermarks_when_reachable(settings, requests)
    start = {partition: max(position, retained[partition]) for partition, position in start.items()}
    with LogReader(settings, [*parked, *outcomes]) as log:
        low = {partition: first for partition, (first, _) in log.offset_ranges().items()}
    outcomes_retained = {partition: low[partition] for partition in outcomes}
    return ScanRange(
        retained=retained,
        requests=start,
        requests_high=requests_high,
        requests_end={
            partition: min(max(position, start[partition]), ends[partition])
            for partition, position in end.items()
        },
        committed=committed,
        parked={partition: low[partition] for partition in parked},
        parked_end=parked_end,
        outcomes=outcomes_retained if since is None else _since(settings, start, outcomes_end),
        outcomes_end=outcomes_end,
        outcomes_retained=outcomes_retained,
        uploads_end=uploads_end,
    )


def _since(settings: Settings, start: Positions, ends: Positions) -> Positions:
    """Where to start reading outcomes: a minute before the first of these requests, for clocks may differ."""
    first_ms = None
    with LogReader(settings, start) as log:
        for partition, (_, end) in log.offset_ranges().items():
            if start[partition] < end:
                log.seek({partition: start[partition]})
                found = next(iter(log.records_until({partition: end})), None)
                if found is not None:
                    first_ms = min(first_ms or found.appended_at_ms, found.appended_at_ms)
    with LogReader(settings, ends) as log:
        if first_ms is None:
            return {partition: low for partition, (low, _) in log.offset_ranges().items()}
        return log.offsets_since(first_ms - CLOCK_TOLERANCE_MS)


def of_partitions(positions: Positions, numbers: Container[int]) -> dict[Partition, int]:
    """The positions of these partition numbers."""
    return {
        partition: position
        for partition, position in positions.items()
        if partition.partition in numbers
    }
