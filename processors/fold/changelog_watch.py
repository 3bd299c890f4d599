"""The published changelog compared with the replica."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka import Message as Read

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
MAX_STALE_ROWS = 10_000  # no more is read while so many rows are looked at
RECORDS = 100
PAUSE_S = 0.01  # after a full batch: at most 10,000 rows a second, the join needs the processor
TICK_S = 0.2


class RowState(Enum):
    """How a row of the changelog stands to the replica's."""

    SAME = "same"
    BEHIND = "behind"
    AHEAD = "ahead"


def compare(codec: Codec, value: bytes | None, known: AssignmentContext | None) -> RowState:
    """Judge a row of the changelog by what the replica knows of its scope."""
    if known is None:
        return RowState.SAME if value is None else RowState.AHEAD
    if value is None:
        return RowState.BEHIND
    if value == codec.encode(known):
        return RowState.SAME
    try:
        row = codec.decode_as(AssignmentContext, value)
        merged = merge(row, known)
    except (BadRecord, ValueError):
        return RowState.BEHIND
    if merged != row:
        return RowState.BEHIND
    return RowState.SAME if merged == known else RowState.AHEAD


@dataclass(slots=True)
class StaleRow:
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
        self._stale: dict[bytes, StaleRow] = {}
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
            due = [(key, one) for key, one in self._stale.items() if one.look_at <= now]
        found = []
        for key, suspect in due:
            match self._row_state(key, suspect.value):
                case RowState.BEHIND:
                    suspect.look_at = now + RETRY_S
                    found.append((suspect.partition, key))
                case RowState.AHEAD if now - suspect.since < AHEAD_S:
                    suspect.look_at = now + PATIENCE_S
                case _:
                    self._forget(key, suspect)
        return found

    def repaired(self, key: bytes, offset: int) -> None:
        """The row was written anew at this offset of the changelog."""
        with self._lock:
            suspect = self._stale.get(key)
            if suspect and suspect.offset < offset:  # else it was written later still
                del self._stale[key]

    def _forget(self, key: bytes, suspect: StaleRow) -> None:
        with self._lock:
            if self._stale.get(key) is suspect:
                del self._stale[key]

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
            consumer.incremental_unassign([TopicPartition(self._topic, one) for one in lost])
            with self._lock:
                self._stale = {
                    key: one for key, one in self._stale.items() if one.partition not in lost
                }
        if gained := owned - reading:
            consumer.incremental_assign(
                [TopicPartition(self._topic, one, OFFSET_BEGINNING) for one in gained]
            )
        return owned

    def _advance(self, consumer: Consumer) -> None:
        if len(self._stale) >= MAX_STALE_ROWS:
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
        verdict = self._row_state(key, message.value())
        now = time.monotonic()
        with self._lock:
            self._stale.pop(key, None)
            if verdict is not RowState.SAME:
                offset = message.offset() or 0
                suspect = StaleRow(partition, offset, message.value(), now, now + PATIENCE_S)
                self._stale[key] = suspect

    def _row_state(self, key: bytes, value: bytes | None) -> RowState:
        known = self._replica.context(key.decode(errors="replace"))
        return compare(self._codec, value, known)
