"""The published changelog compared with the replica."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from confluent_kafka import OFFSET_BEGINNING, Consumer
from confluent_kafka import Message as Read
from confluent_kafka import TopicPartition as At

from processors.kafka.clients import reader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import BadRecord
from schemas.events import AssignmentContext
from schemas.partitioner import partition_for
from tables.context import merge
from tables.replica import ContextReplica

PATIENCE_S = 1.0  # the worker's own fold, or its replica, may be about to catch up
RETRY_S = 5.0  # a rebalance drops what was handed over
AHEAD_S = 30.0  # how long a row newer than the replica's is looked at again
SUSPECTS = 10_000  # no more is read while so many rows are looked at
RECORDS = 100
PAUSE_S = 0.01  # after a full batch: at most 10,000 rows a second, the join needs the processor
TICK_S = 0.2


class Verdict(Enum):
    """How a row of the changelog stands to the replica's."""

    SAME = "same"
    BEHIND = "behind"
    AHEAD = "ahead"


def compare(codec: Codec, value: bytes | None, known: AssignmentContext | None) -> Verdict:
    """Judge a row of the changelog by what the replica knows of its scope."""
    if known is None:
        return Verdict.SAME if value is None else Verdict.AHEAD
    if value is None:
        return Verdict.BEHIND
    if value == codec.encode(known):
        return Verdict.SAME
    try:
        row = codec.decode_as(AssignmentContext, value)
        merged = merge(row, known)
    except (BadRecord, ValueError):
        return Verdict.BEHIND
    if merged != row:
        return Verdict.BEHIND
    return Verdict.SAME if merged == known else Verdict.AHEAD


@dataclass(slots=True)
class Suspect:
    """A row of the changelog that is not the replica's, since when, and when to look again."""

    partition: int
    offset: int
    value: bytes | None
    since: float
    look_at: float


class ChangelogWatch:
    """A thread that reads the owned partitions of the changelog and keeps the rows that differ."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        replica: ContextReplica,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._topic = settings.topics.context.name
        self._codec = codec
        self._replica = replica
        self._fatal = fatal
        self._owned: frozenset[int] = frozenset()
        self._suspects: dict[bytes, Suspect] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="changelog-watch", daemon=True)

    def start(self) -> None:
        """Start the thread; it connects once partitions are owned."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; returns when the thread has ended."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def own(self, partitions: frozenset[int]) -> None:
        """Read these partitions from now on, newly owned ones from their start."""
        self._owned = partitions

    def behind(self) -> list[tuple[int, bytes]]:
        """The partition and key of each row that has stayed behind; asked again after a while."""
        now = time.monotonic()
        with self._lock:
            due = [(key, one) for key, one in self._suspects.items() if one.look_at <= now]
        found = []
        for key, suspect in due:
            match self._verdict(key, suspect.value):
                case Verdict.BEHIND:
                    suspect.look_at = now + RETRY_S
                    found.append((suspect.partition, key))
                case Verdict.AHEAD if now - suspect.since < AHEAD_S:
                    suspect.look_at = now + PATIENCE_S
                case _:
                    self._forget(key, suspect)
        return found

    def reasserted(self, key: bytes, offset: int) -> None:
        """The row was written anew at this offset of the changelog."""
        with self._lock:
            suspect = self._suspects.get(key)
            if suspect and suspect.offset < offset:  # else it was written later still
                del self._suspects[key]

    def _forget(self, key: bytes, suspect: Suspect) -> None:
        with self._lock:
            if self._suspects.get(key) is suspect:
                del self._suspects[key]

    def _run(self) -> None:
        consumer = reader(self._settings, **{"auto.offset.reset": "earliest"})
        reading: frozenset[int] = frozenset()
        try:
            while not self._stopping.is_set():
                reading = self._take_over(consumer, reading, self._owned)
                self._advance(consumer)
        except BaseException as fault:  # noqa: BLE001 (whatever it is, the process is to end)
            self._fatal(fault)
        finally:
            consumer.close()

    def _take_over(
        self, consumer: Consumer, reading: frozenset[int], owned: frozenset[int]
    ) -> frozenset[int]:
        if lost := reading - owned:
            consumer.incremental_unassign([At(self._topic, one) for one in lost])
            with self._lock:
                self._suspects = {
                    key: one for key, one in self._suspects.items() if one.partition not in lost
                }
        if gained := owned - reading:
            consumer.incremental_assign([At(self._topic, one, OFFSET_BEGINNING) for one in gained])
        return owned

    def _advance(self, consumer: Consumer) -> None:
        if len(self._suspects) >= SUSPECTS:
            self._stopping.wait(TICK_S)
            return
        first = consumer.poll(TICK_S)
        messages = [] if first is None else [first, *consumer.consume(RECORDS, 0)]
        for message in messages:
            if message.error() is None:  # the client retries by itself when the broker is away
                self._look_at(message)
        if len(messages) > RECORDS:
            self._stopping.wait(PAUSE_S)

    def _look_at(self, message: Read) -> None:
        key, partition = message.key(), message.partition()
        if key is None or partition != partition_for(key, self._settings.partitions):
            return  # no row of the table
        verdict = self._verdict(key, message.value())
        now = time.monotonic()
        with self._lock:
            self._suspects.pop(key, None)
            if verdict is not Verdict.SAME:
                offset = message.offset() or 0
                suspect = Suspect(partition, offset, message.value(), now, now + PATIENCE_S)
                self._suspects[key] = suspect

    def _verdict(self, key: bytes, value: bytes | None) -> Verdict:
        known = self._replica.context(key.decode(errors="replace"))
        return compare(self._codec, value, known)
