"""Finds single records: by their coordinates, with as few seeks as possible, or by bytes in them."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from confluent_kafka import Consumer, Message, TopicPartition

from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S, Clock
from processors.kafka.poll import poll_records
from processors.kafka.records import LogRecord, coordinates_of, log_record_of
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Unreachable

MAX_RECORDS = 5000  # of one poll
POLL_S = 0.1
MAX_GAP = 2000  # offsets; a gap of this size is read instead of skipped by a seek


def records_at(settings: Settings, wanted: Iterable[Coordinates]) -> Iterator[LogRecord]:
    """The records at these coordinates, in order; missing ones are left out. Raises Unreachable, Discrepancy."""
    requested = set(wanted)
    if not requested:
        return
    with LogReader(settings, {Partition(at.topic, at.partition) for at in requested}) as log:
        retained = log.offset_ranges()
        for partition, first, last in runs_of(requested):
            low, end = retained[partition]
            start, stop = max(first, low), min(last + 1, end)
            if start >= stop:
                continue
            log.seek({partition: start})
            for messages in log.messages_until({partition: stop}):
                yield from (
                    log_record_of(message)
                    for message in messages
                    if coordinates_of(message) in requested
                )


def runs_of(wanted: Iterable[Coordinates]) -> list[tuple[Partition, int, int]]:
    """The partition, first offset and last offset of each range that is best read without a seek."""
    runs = list[tuple[Partition, int, int]]()
    for at in sorted(wanted):
        partition = Partition(at.topic, at.partition)
        if runs and runs[-1][0] == partition and at.offset - runs[-1][2] <= MAX_GAP:
            runs[-1] = (partition, runs[-1][1], at.offset)
        else:
            runs.append((partition, at.offset, at.offset))
    return runs


def messages_containing(
    settings: Settings,
    ranges: Mapping[Partition, tuple[int, int]],
    needle: bytes,
    *,
    whole_topic: str = "",
) -> Iterator[Message]:
    """The messages in these ranges whose key or value contains the needle, and all of whole_topic.

    Raises Unreachable, Discrepancy.
    """
    with LogReader(settings, ranges) as log:
        log.seek({partition: start for partition, (start, _) in ranges.items()})
        ends = {partition: end for partition, (_, end) in ranges.items()}
        for messages in log.messages_until(ends):
            yield from (
                message
                for message in messages
                if needle in (message.value() or b"")
                or needle in (message.key() or b"")
                or message.topic() == whole_topic
            )


def last_committed_record(
    consumer: Consumer,
    partition: Partition,
    low: int,
    high: int,
    clock: Clock,
    counts: Callable[[Message], bool] = lambda _message: True,
) -> str | None:
    """The coordinates, as text, of the last committed record in `[low, high)` that counts; None if there is none.

    Reads tails of growing length, because a range may hold only control records and aborted records. Raises
    Unreachable.
    """
    tail = 100
    while low < high:
        start = max(low, high - tail)
        consumer.assign([TopicPartition(*partition, start)])
        newest = None
        deadline = clock.monotonic() + REQUEST_TIMEOUT_S
        while consumer.position([TopicPartition(*partition)])[0].offset < high:
            messages = poll_records(consumer, MAX_RECORDS, POLL_S)
            for message in messages:
                # polling skips gaps, also past high
                if (message.offset() or 0) < high and counts(message):
                    newest = f"{partition}@{message.offset()}"
            if not messages and clock.monotonic() > deadline:
                raise Unreachable(f"no broker answers for {partition}")
        if newest or start == low:
            return newest
        tail *= 10
    return None
