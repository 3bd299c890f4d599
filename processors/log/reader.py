"""A topic as records: committed ones, read from a position to an end, outside any group."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as At

from processors.kafka.bounded_wait import wait_until
from processors.kafka.clients import admin_client, reader
from processors.kafka.topic_admin import high_watermarks
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Discrepancy, Unreachable

T = TypeVar("T")
Fetch = list[Message]  # librdkafka's own, for who reads millions of them
RECORDS = 5000
POLL_S = 0.05  # markers bring no message: position() has to be asked again
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One committed record as it stands in the log."""

    at: Coordinates
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    appended_at_ms: int


class Log:
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

    def retained(self) -> dict[Partition, tuple[int, int]]:
        """The first offset of each partition and its end: the last stable offset. Raises Unreachable."""

        def asked() -> dict[Partition, tuple[int, int]]:
            try:
                return {
                    one: self._consumer.get_watermark_offsets(At(*one), timeout=ANSWER_S)
                    for one in self._partitions
                }
            except KafkaException as fault:
                raise Unreachable(f"no end offsets: {fault.args[0].name()}") from fault

        return once_reachable(asked)

    def first_since(self, moment_ms: int) -> dict[Partition, int]:
        """The first offset of each partition appended at that time or later; its end where there is none yet.

        Raises Unreachable.
        """

        def asked() -> list[At]:
            try:
                sought = [At(*one, moment_ms) for one in self._partitions]
                return self._consumer.offsets_for_times(sought, timeout=ANSWER_S)
            except KafkaException as fault:
                raise Unreachable(f"no offsets of a time: {fault.args[0].name()}") from fault

        retained = self.retained()
        return {
            one: retained[one][1] if at.offset < 0 else at.offset
            for one, at in ((Partition(at.topic, at.partition), at) for at in once_reachable(asked))
        }

    def begin(self, starts: Positions) -> None:
        """Read on from these positions."""
        self._starts = dict(starts)
        self._consumer.assign([At(*one, offset) for one, offset in starts.items()])

    def read(self) -> list[LogRecord]:
        """What has come; often nothing. Raises Discrepancy where a position is not in the log."""
        return [log_record_of(message) for message in self._came() if is_record(message)]

    def _came(self) -> list[Message]:
        first = self._consumer.poll(POLL_S)
        return [] if first is None else [first, *self._consumer.consume(RECORDS, 0)]

    def _fetched(self, ends: Positions) -> list[Message]:
        records = [one for one in self._came() if one.error() is None or is_record(one)]
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
        asked = self._consumer.position([At(*one) for one in self._starts])
        return {
            Partition(at.topic, at.partition): max(
                at.offset, self._starts[Partition(at.topic, at.partition)]
            )
            for at in asked
        }

    def read_to(self, ends: Positions, seconds: float = ANSWER_S) -> Iterator[LogRecord]:
        """Every record before the ends. Raises Unreachable where nothing moves for that long."""
        for messages in self.messages_to(ends, seconds):
            yield from map(log_record_of, messages)

    def messages_to(self, ends: Positions, seconds: float = ANSWER_S) -> Iterator[Fetch]:
        """The same as librdkafka's messages, a fetch at a time."""
        seen, moved_at = None, monotonic()
        while True:
            if found := self._fetched(ends):
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


def is_record(message: Message) -> bool:
    """Whether it is one, and no passing error. Raises Discrepancy where the position is not in the log."""
    error = message.error()
    if error is None:
        return True
    lost = error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
    if lost or error.fatal():
        raise Discrepancy(f"{message.topic()}/{message.partition()}: {error.str()}")
    return False  # a broker that is away comes back; the client retries by itself


def log_record_of(message: Message) -> LogRecord:
    """A message as it stands in the log."""
    return LogRecord(
        coordinates_of(message),
        message.key(),
        message.value(),
        tuple(cast(list[tuple[str, bytes | None]], message.headers() or [])),
        message.timestamp()[1],
    )


def coordinates_of(message: Message) -> Coordinates:
    """Where a message stands."""
    return Coordinates(
        str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
    )


def log_start(consumer: Consumer, at: Partition) -> int:
    """The first offset that a partition still has. Raises KafkaException."""
    low, _ = consumer.get_watermark_offsets(At(*at), timeout=ANSWER_S, cached=False)
    return low


def _named(partitions: Iterable[Partition]) -> str:
    return ", ".join(f"{one.topic}/{one.partition}" for one in partitions)


def high_ends(settings: Settings, partitions: Iterable[Partition]) -> Positions:
    """The high watermarks. Raises Unreachable."""
    admin, wanted = admin_client(settings), list(partitions)
    return once_reachable(lambda: high_watermarks(admin, wanted))


def once_reachable(
    asked: Callable[[], T], seconds: float = ANSWER_S, what: str = "a leader of every partition"
) -> T:
    """Ask again for a while: a partition just made or moved has no leader for a moment, a group no coordinator."""

    answers = list[T]()

    def tried() -> bool:
        with suppress(Unreachable):
            answers.append(asked())
        return bool(answers)

    wait_until(tried, seconds=seconds, what=what, every_s=0.1)
    return answers[0]


def partitions_of(topic_names: Iterable[str], settings: Settings) -> list[Partition]:
    """Every partition of these topics."""
    return [Partition(name, one) for name in topic_names for one in range(settings.partitions)]
