"""Reads the committed records of partitions, from positions to ends, without a consumer group."""

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Self

from confluent_kafka import KafkaException, Message, TopicPartition

from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S, retry_while_unreachable
from processors.kafka.clients import reader
from processors.kafka.poll import poll_records, read_positions
from processors.kafka.records import LogRecord, log_record_of
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable

Messages = list[Message]  # of librdkafka, for callers that read millions of them
MAX_RECORDS = 5000  # of one poll
POLL_S = 0.05  # short: control records move the position but return no message


class LogReader:
    """A reader of some partitions: of committed records, or also of those in open and aborted transactions."""

    def __init__(
        self, settings: Settings, partitions: Iterable[Partition], *, uncommitted: bool = False
    ) -> None:
        level = {"isolation.level": "read_uncommitted"} if uncommitted else {}
        self._consumer = reader(settings, **level)
        self._partitions = tuple(partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._consumer.close()

    def offset_ranges(self) -> dict[Partition, tuple[int, int]]:
        """The log start and the end (the last stable offset) of each partition. Raises Unreachable."""

        def request() -> dict[Partition, tuple[int, int]]:
            try:
                return {
                    partition: self._consumer.get_watermark_offsets(
                        TopicPartition(*partition), timeout=REQUEST_TIMEOUT_S
                    )
                    for partition in self._partitions
                }
            except KafkaException as fault:
                raise Unreachable(f"no end offsets: {fault.args[0].name()}") from fault

        return retry_while_unreachable(request)

    def offsets_since(self, moment_ms: int) -> dict[Partition, int]:
        """The first offset appended at that time or later in each partition; its end if there is none.

        Raises Unreachable.
        """

        def request() -> list[TopicPartition]:
            try:
                # Kafka takes negative times as commands: -1 is the end of the log
                since_ms = max(moment_ms, 0)
                times = [TopicPartition(*partition, since_ms) for partition in self._partitions]
                return self._consumer.offsets_for_times(times, timeout=REQUEST_TIMEOUT_S)
            except KafkaException as fault:
                raise Unreachable(f"no offsets for a time: {fault.args[0].name()}") from fault

        retained = self.offset_ranges()
        return {
            partition: retained[partition][1] if offset < 0 else offset
            for partition, offset in (
                (Partition(tp.topic, tp.partition), tp.offset)
                for tp in retry_while_unreachable(request)
            )
        }

    def seek_to_start(self) -> Positions:
        """Continue reading at the start of each partition; returns the current ends. Raises Unreachable."""
        ranges = self.offset_ranges()
        self.seek({partition: low for partition, (low, _) in ranges.items()})
        return {partition: end for partition, (_, end) in ranges.items()}

    def seek(self, starts: Positions) -> None:
        """Continue reading at these positions."""
        self._starts = dict(starts)
        self._consumer.assign(
            [TopicPartition(*partition, offset) for partition, offset in starts.items()]
        )

    def read(self) -> list[LogRecord]:
        """The records of one poll, often none. Raises Discrepancy if a position is not in the log."""
        return [*map(log_record_of, poll_records(self._consumer, MAX_RECORDS, POLL_S))]

    def _poll_until(self, ends: Positions) -> list[Message]:
        records = poll_records(self._consumer, MAX_RECORDS, POLL_S)
        if all(position <= ends[partition] for partition, position in self.positions().items()):
            return records  # the usual case: no need to check each record
        by_topic = dict[str, dict[int, int]]()
        for (topic, number), end in ends.items():
            by_topic.setdefault(topic, {})[number] = end
        return [
            message
            for message in records
            if message.offset() < by_topic[message.topic()][message.partition()]  # type: ignore[index,operator]
        ]

    def positions(self) -> Positions:
        """The position of each partition; control records, which are not returned, move it, too."""
        positions = read_positions(self._consumer, self._starts)
        return {
            partition: max(positions.get(partition, start), start)
            for partition, start in self._starts.items()
        }

    def records_until(
        self, ends: Positions, seconds: float = REQUEST_TIMEOUT_S
    ) -> Iterator[LogRecord]:
        """Every record before the ends. Raises Unreachable if no position moves for that long."""
        for messages in self.messages_until(ends, seconds):
            yield from map(log_record_of, messages)

    def messages_until(
        self, ends: Positions, seconds: float = REQUEST_TIMEOUT_S
    ) -> Iterator[Messages]:
        """Like `records_until`, but as librdkafka's messages, one list per poll."""
        last_positions, moved_at = None, monotonic()
        while True:
            if messages := self._poll_until(ends):
                yield messages
            positions = self.positions()
            behind = [partition for partition, end in ends.items() if positions[partition] < end]
            if not behind:
                return
            if positions != last_positions:
                last_positions, moved_at = positions, monotonic()
            elif monotonic() - moved_at > seconds:
                raise Unreachable(
                    f"reading makes no progress at {_names_of(behind)} (an open transaction?)"
                )


def _names_of(partitions: Iterable[Partition]) -> str:
    return ", ".join(map(str, partitions))


def read_from(settings: Settings, starts: Positions) -> tuple[list[LogRecord], Positions]:
    """The records of one poll from these positions, and the positions after them; waits for the first record."""
    with LogReader(settings, starts) as log:
        log.seek(starts)
        until, records = monotonic() + REQUEST_TIMEOUT_S, list[LogRecord]()
        while not records and monotonic() < until:
            records = log.read()
        return records, log.positions()
