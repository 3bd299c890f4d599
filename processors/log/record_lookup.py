"""Single records of the log: by their coordinates, in as few goes as their distances allow, or by bytes in them."""

from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import Consumer, Message, TopicPartition

from processors.kafka.bounded_wait import ANSWER_S, Clock
from processors.kafka.records import LogRecord, coordinates_of, log_record_of
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Unreachable

GAP = 2000  # offsets that are read over rather than sought over


def records_at(settings: Settings, wanted: Iterable[Coordinates]) -> Iterator[LogRecord]:
    """The records that stand at these coordinates, in order; none where none does. Raises Unreachable, Discrepancy."""
    left = set(wanted)
    if not left:
        return
    with LogReader(settings, {Partition(at.topic, at.partition) for at in left}) as log:
        retained = log.offset_ranges()
        for one, first, last in runs_of(left):
            low, end = retained[one]
            start, stop = max(first, low), min(last + 1, end)
            if start >= stop:
                continue
            log.seek({one: start})
            for messages in log.messages_until({one: stop}):
                yield from (
                    log_record_of(message)
                    for message in messages
                    if coordinates_of(message) in left
                )


def runs_of(wanted: Iterable[Coordinates]) -> list[tuple[Partition, int, int]]:
    """Partition, first and last offset of what is best read in one go."""
    runs = list[tuple[Partition, int, int]]()
    for at in sorted(wanted):
        one = Partition(at.topic, at.partition)
        if runs and runs[-1][0] == one and at.offset - runs[-1][2] <= GAP:
            runs[-1] = (one, runs[-1][1], at.offset)
        else:
            runs.append((one, at.offset, at.offset))
    return runs


def messages_containing(
    settings: Settings,
    spans: Mapping[Partition, tuple[int, int]],
    part: bytes,
    *,
    whole: str = "",
) -> Iterator[Message]:
    """The messages in these spans whose key or value has the part, and every one of the topic `whole`.

    Raises Unreachable, Discrepancy.
    """
    with LogReader(settings, spans) as log:
        log.seek({one: begin for one, (begin, _) in spans.items()})
        for messages in log.messages_until({one: end for one, (_, end) in spans.items()}):
            yield from (
                one
                for one in messages
                if part in (one.value() or b"")
                or part in (one.key() or b"")
                or one.topic() == whole
            )


def last_committed_record(
    consumer: Consumer, at: Partition, low: int, high: int, clock: Clock
) -> str | None:
    """The last record in `[low, high)` that no abort took back, by reading ever longer tails.

    A hole that markers left has none. Raises Unreachable.
    """
    tail = 100
    while low < high:
        start = max(low, high - tail)
        consumer.assign([TopicPartition(*at, start)])
        newest = None
        until = clock.monotonic() + ANSWER_S
        while consumer.position([TopicPartition(*at)])[0].offset < high:
            message = consumer.poll(0.1)
            if message is None or message.error() is not None:
                if clock.monotonic() > until:
                    raise Unreachable(f"{at.topic}/{at.partition} is not answered for")
            elif (message.offset() or 0) < high:  # a hole that ends there is read over in one go
                newest = f"{at.topic}/{at.partition}@{message.offset()}"
        if newest or start == low:
            return newest
        tail *= 10
    return None
