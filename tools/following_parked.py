"""The parked requests that directly follow the newest outcome of their partition, for `requests reset-offsets`.

Any producer may write to the parked topic. So an entry counts only if the request log has these bytes at its
coordinates, and only if every request between the newest outcome and it is parked, too: no entry can move an offset
beyond a request that has neither an outcome nor an entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from processors.log.reader import LogReader
from processors.parking.entry_check import NOT_IN_LOG
from processors.parking.parked_record import content_of
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from tools.parked import WaitingRequest, parked_records


@dataclass(slots=True)
class FollowingParked:
    """The highest such request of each partition that has one, and the records that do not count, with the reason."""

    last: dict[Partition, int] = field(default_factory=dict)
    strangers: dict[Coordinates, str] = field(default_factory=dict)


def following_parked(settings: Settings, starts: Positions, ends: Positions) -> FollowingParked:
    """starts: of each request partition, the offset above its newest outcome. Raises Unreachable, Discrepancy."""
    records = parked_records(settings)
    found = FollowingParked(strangers=dict(records.strangers))
    entries: dict[Partition, dict[int, WaitingRequest]] = {partition: {} for partition in starts}
    for at, waiting in records.waiting.items():
        partition = Partition(at.topic, at.partition)
        if at.offset >= starts[partition]:  # of the others, the outcome decides
            entries[partition][at.offset] = waiting
    with LogReader(settings, starts) as log:
        for partition, of_partition in entries.items():
            if of_partition:
                _follow(log, partition, starts[partition], ends[partition], of_partition, found)
    return found


def _follow(
    log: LogReader,
    partition: Partition,
    start: int,
    end: int,
    entries: Mapping[int, WaitingRequest],
    found: FollowingParked,
) -> None:
    """Read the requests of a partition from its newest outcome until one is not parked."""
    stop = min(end, max(entries) + 1)
    reasons = dict.fromkeys(entries, NOT_IN_LOG)
    log.seek({partition: start})
    for request in log.records_until({partition: stop}):
        offset, entry = request.at.offset, entries.get(request.at.offset)
        if entry is None or entry.content != content_of(request.key, request.value or b""):
            later = f"request {request.at}, before it, has neither an outcome nor a valid entry"
            reasons |= {other: later for other in reasons if offset < other < end}
            if entry is not None:
                reasons[offset] = f"it differs from its request {request.at}"
            break
        found.last[partition] = offset
        del reasons[offset]
    found.strangers |= {entries[offset].at: reason for offset, reason in reasons.items()}
