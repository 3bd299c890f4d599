"""A topic as records: committed ones, read from a position to an end, outside any group."""

from collections.abc import Iterable, Iterator
from time import monotonic
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, Message, TopicPartition

from processors.kafka.bounded_wait import ANSWER_S, retry_while_unreachable
from processors.kafka.clients import reader
from processors.kafka.records import LogRecord, is_record, log_record_of
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable

Messages = list[Message]  # librdkafka's own, for who reads millions of them
RECORDS = 5000
POLL_S = 0.05  # markers bring no message: position() has to be asked again


class LogReader:
    """Partitions of the log, read committed from their starts on; or uncommitted, open transactions included."""

    def __init__(
        self, settings: Settings, partitions: Iterable[Partition], *, uncommitted: bool = False
    ) -> None:
        level = {"isolation.level": "read_uncommitted"} if uncommitted else {}
        self._consumer = reader(settings, **level)
        self._partitions = tuple(partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _fault: object, _at: TracebackType | None
    ) -> None:
        self._consumer.close()

    def offset_ranges(self) -> dict[Partition, tuple[int, int]]:
        """The first offset of each partition and its end: the last stable offset. Raises Unreachable."""

        def asked() -> dict[Partition, tuple[int, int]]:
            try:
                return {
                    one: self._consumer.get_watermark_offsets(
                        TopicPartition(*one), timeout=ANSWER_S
                    )
                    for one in self._partitions
                }
            except KafkaException as fault:
                raise Unreachable(f"no end offsets: {fault.args[0].name()}") from fault

        return retry_while_unreachable(asked)

    def offsets_since(self, moment_ms: int) -> dict[Partition, int]:
        """The first offset of each partition appended at that time or later; its end where there is none yet.

        Raises Unreachable.
        """

        def asked() -> list[TopicPartition]:
            try:
                sought = [TopicPartition(*one, moment_ms) for one in self._partitions]
                return self._consumer.offsets_for_times(sought, timeout=ANSWER_S)
            except KafkaException as fault:
                raise Unreachable(f"no offsets of a time: {fault.args[0].name()}") from fault

        retained = self.offset_ranges()
        return {
            one: retained[one][1] if at.offset < 0 else at.offset
            for one, at in (
                (Partition(at.topic, at.partition), at) for at in retry_while_unreachable(asked)
            )
        }

    def seek(self, starts: Positions) -> None:
        """Read on from these positions."""
        self._starts = dict(starts)
        self._consumer.assign([TopicPartition(*one, offset) for one, offset in starts.items()])

    def read(self) -> list[LogRecord]:
        """What has come; often nothing. Raises Discrepancy where a position is not in the log."""
        return [log_record_of(message) for message in self._poll() if is_record(message)]

    def _poll(self) -> list[Message]:
        first = self._consumer.poll(POLL_S)
        return [] if first is None else [first, *self._consumer.consume(RECORDS, 0)]

    def _poll_until(self, ends: Positions) -> list[Message]:
        records = [one for one in self._poll() if one.error() is None or is_record(one)]
        if all(position <= ends[at] for at, position in self.positions().items()):
            return records  # the most of them: no need to look at each
        by_topic = dict[str, dict[int, int]]()
        for (topic, partition), end in ends.items():
            by_topic.setdefault(topic, {})[partition] = end
        return [
            one
            for one in records
            if one.offset() < by_topic[one.topic()][one.partition()]  # type: ignore[index,operator]
        ]

    def positions(self) -> Positions:
        """The next offset of each partition; markers, which are no records, are passed, too."""
        asked = self._consumer.position([TopicPartition(*one) for one in self._starts])
        return {
            Partition(at.topic, at.partition): max(
                at.offset, self._starts[Partition(at.topic, at.partition)]
            )
            for at in asked
        }

    def records_until(self, ends: Positions, seconds: float = ANSWER_S) -> Iterator[LogRecord]:
        """Every record before the ends. Raises Unreachable where nothing moves for that long."""
        for messages in self.messages_until(ends, seconds):
            yield from map(log_record_of, messages)

    def messages_until(self, ends: Positions, seconds: float = ANSWER_S) -> Iterator[Messages]:
        """The same as librdkafka's messages, a fetch at a time."""
        seen, moved_at = None, monotonic()
        while True:
            if found := self._poll_until(ends):
                yield found
            positions = self.positions()
            behind = [one for one, end in ends.items() if positions[one] < end]
            if not behind:
                return
            if positions != seen:
                seen, moved_at = positions, monotonic()
            elif monotonic() - moved_at > seconds:
                raise Unreachable(
                    f"the log stands still at {_named(behind)} (an open transaction?)"
                )


def _named(partitions: Iterable[Partition]) -> str:
    return ", ".join(f"{one.topic}/{one.partition}" for one in partitions)
