"""Which of some requests have no outcome, although they were fetched."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.log.record_lookup import records_at
from processors.outcomes.answered_request import dead_lettered_offset, offset_in
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions

TOLERANCE_MS = (
    60_000  # an outcome is appended after its request, but the clocks of brokers may differ
)

NOTHING_COMMITTED = (
    "batch preparation has no committed offset: it is not known whether it was fetched"
)


@dataclass(slots=True)
class Unanswered:
    """Requests in the log without an outcome, and why others are not among them."""

    requests: dict[Coordinates, LogRecord] = field(default_factory=dict)
    others: dict[Coordinates, str] = field(default_factory=dict)


def unanswered(
    settings: Settings, requests: Iterable[Coordinates], max_outcomes: int | None = None
) -> Unanswered:
    """Those of these requests that were fetched and have no outcome.

    Reads the outcomes since the oldest of the requests; at most the newest max_outcomes of each partition, and then
    without a statement on requests that are older than those. Raises Unreachable, Discrepancy.
    """
    found, wanted = Unanswered(), list(requests)
    partitions = settings.partitions_of(settings.topics.requests)
    committed = committed_offsets(settings, settings.prep_group, partitions)
    fetched = list[Coordinates]()
    for at in wanted:
        partition = Partition(at.topic, at.partition)
        if partition not in partitions:
            found.others[at] = "it is in no request partition of this installation"
        elif partition not in committed:
            found.others[at] = NOTHING_COMMITTED
        elif at.offset >= committed[partition]:
            found.others[at] = "it was not fetched yet"
        else:
            fetched.append(at)
    found.requests = {record.at: record for record in records_at(settings, fetched)}
    found.others |= {at: "it is not in the log" for at in fetched if at not in found.requests}
    if found.requests:
        _remove_answered(settings, found, max_outcomes)
    return found


def _remove_answered(settings: Settings, found: Unanswered, max_outcomes: int | None) -> None:
    topics = settings.topics
    requests, letters = topics.requests.name, topics.requests_dlq.name
    numbers = {at.partition for at in found.requests}
    partitions = [Partition(topic.name, n) for topic in topics.outcomes for n in numbers]
    ends = high_watermarks_when_reachable(settings, partitions)
    since_ms = min(record.appended_at_ms for record in found.requests.values()) - TOLERANCE_MS
    with LogReader(settings, partitions) as log:
        lows = {partition: low for partition, (low, _) in log.offset_ranges().items()}
        starts = log.offsets_since(max(0, since_ms))
        if max_outcomes is not None:
            starts = {tp: max(start, ends[tp] - max_outcomes) for tp, start in starts.items()}
        cut = {tp for tp, start in starts.items() if start > lows[tp]}
        log.seek(starts)
        for record in log.records_until({tp: max(ends[tp], starts[tp]) for tp in starts}):
            number = record.at.partition
            if max_outcomes is not None and Partition(record.at.topic, number) in cut:
                cut.discard(Partition(record.at.topic, number))
                _drop_older(found, number, record.appended_at_ms, since_ms)
            if record.at.topic == letters:
                offset = dead_lettered_offset(record.headers, requests, number)
            else:
                offset = offset_in(record.value or b"", f"{requests}/{number}@".encode())
            if offset is not None:
                at = Coordinates(requests, number, offset)
                if found.requests.pop(at, None):
                    found.others[at] = f"its outcome is {record.at}"
    _drop_without_log(found, starts, lows)


def _drop_older(found: Unanswered, number: int, read_since_ms: int, since_ms: int) -> None:
    """Drop the requests of a partition whose outcomes may be older than the first that is read."""
    if read_since_ms - TOLERANCE_MS <= since_ms:
        return
    for at, request in list(found.requests.items()):
        if at.partition == number and request.appended_at_ms <= read_since_ms + TOLERANCE_MS:
            found.others[at] = "it is older than the outcomes that are read"
            del found.requests[at]


def _drop_without_log(found: Unanswered, starts: Positions, lows: Positions) -> None:
    """Drop the requests of partitions whose log may no longer have all outcomes of their time."""
    gone = {tp.partition for tp, start in starts.items() if lows[tp] > 0 and start <= lows[tp]}
    for at in [at for at in found.requests if at.partition in gone]:
        found.others[at] = "the log no longer has all outcomes of its time"
        del found.requests[at]
