"""A thread that compares the published changelog with the replica."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from processors.kafka.clients import reader
from processors.kafka.poll import poll_records
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import BadRecord
from schemas.events import AssignmentContext
from schemas.partitioner import partition_for
from tables.context import merge
from tables.replica import ContextReplica

CATCH_UP_S = 1.0  # the worker's own fold, or its replica, may still have to catch up
RETRY_S = 5.0  # a rebalance drops rows that wait to be rewritten
AHEAD_S = 30.0  # a row that is newer than the replica's is compared again for this long
MAX_STALE_ROWS = 10_000  # reading pauses while so many rows differ
RECORDS = 100
PAUSE_S = 0.01  # after a full batch: at most 10,000 rows a second; the join needs the CPU
TICK_S = 0.2


class RowState(Enum):
    """A row of the changelog compared with the replica's row."""

    SAME = "same"
    BEHIND = "behind"
    AHEAD = "ahead"


def compare(codec: Codec, value: bytes | None, known: AssignmentContext | None) -> RowState:
    """Compare a row of the changelog with what the replica knows of its scope."""
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
    """A changelog row that differs from the replica's, since when, and when to compare it again."""

    partition: int
    offset: int
    value: bytes | None
    differs_since_s: float  # both by `time.monotonic()`
    compare_again_at_s: float


class ChangelogWatch:
    """Reads the owned partitions of the changelog, on a thread, and keeps the rows that differ."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        replica: ContextReplica,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._topic = settings.topics.context.name
        self._codec = codec
        self._replica = replica
        self._fail = fail
        self._owned: frozenset[int] = frozenset()
        self._stale: dict[bytes, StaleRow] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="changelog-watch", daemon=True)

    def start(self) -> None:
        """Start the thread; it connects once partitions are owned."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; returns when it has ended."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def own(self, partitions: frozenset[int]) -> None:
        """Read these partitions from now on, newly owned ones from their start."""
        self._owned = partitions

    def behind(self) -> list[tuple[int, bytes]]:
        """The partition and key of each row that is still behind; each one at most every `RETRY_S`."""
        now = time.monotonic()
        with self._lock:
            due = [(key, row) for key, row in self._stale.items() if row.compare_again_at_s <= now]
        behind = []
        for key, row in due:
            match self._row_state(key, row.value):
                case RowState.BEHIND:
                    row.compare_again_at_s = now + RETRY_S
                    behind.append((row.partition, key))
                case RowState.AHEAD if now - row.differs_since_s < AHEAD_S:
                    row.compare_again_at_s = now + CATCH_UP_S
                case _:
                    self._forget(key, row)
        return behind

    def repaired(self, key: bytes, offset: int) -> None:
        """Note that the row was rewritten at this offset of the changelog."""
        with self._lock:
            row = self._stale.get(key)
            if row and row.offset < offset:  # else it differs from a later write
                del self._stale[key]

    def _forget(self, key: bytes, row: StaleRow) -> None:
        with self._lock:
            if self._stale.get(key) is row:
                del self._stale[key]

    def _run(self) -> None:
        consumer = reader(self._settings, **{"auto.offset.reset": "earliest"})
        reading: frozenset[int] = frozenset()
        try:
            while not self._stopping.is_set():
                reading = self._reassign(consumer, reading, self._owned)
                self._advance(consumer)
        except BaseException as fault:  # noqa: BLE001 (whatever it is, the process must end)
            self._fail(fault)
        finally:
            consumer.close()

    def _reassign(
        self, consumer: Consumer, reading: frozenset[int], owned: frozenset[int]
    ) -> frozenset[int]:
        if lost := reading - owned:
            consumer.incremental_unassign(
                [TopicPartition(self._topic, partition) for partition in lost]
            )
            with self._lock:
                self._stale = {
                    key: row for key, row in self._stale.items() if row.partition not in lost
                }
        if gained := owned - reading:
            consumer.incremental_assign(
                [TopicPartition(self._topic, partition, OFFSET_BEGINNING) for partition in gained]
            )
        return owned

    def _advance(self, consumer: Consumer) -> None:
        if len(self._stale) >= MAX_STALE_ROWS:
            self._stopping.wait(TICK_S)
            return
        records = poll_records(consumer, RECORDS, TICK_S)
        for record in records:
            self._compare(record)
        if len(records) == RECORDS:
            self._stopping.wait(PAUSE_S)

    def _compare(self, message: Message) -> None:
        key, partition = message.key(), message.partition()
        if key is None or partition != partition_for(key, self._settings.partitions):
            return  # not a row of the table
        state = self._row_state(key, message.value())
        now = time.monotonic()
        with self._lock:
            self._stale.pop(key, None)
            if state is not RowState.SAME:
                offset = message.offset() or 0
                row = StaleRow(partition, offset, message.value(), now, now + CATCH_UP_S)
                self._stale[key] = row

    def _row_state(self, key: bytes, value: bytes | None) -> RowState:
        known = self._replica.context(key.decode(errors="replace"))
        return compare(self._codec, value, known)
