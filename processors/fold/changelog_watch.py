"""A thread that compares the published changelog with the replica.

The fold publishes an upload later than the replica folds it, and a newer row may follow a wrong one. So a row that
differs is kept until both are settled: at a checkpoint, first the positions that the fold has processed are taken, then
the ends of the changelog. Once the changelog is read up to there, a row that still lacks an upload below the fold's
position lacks it for good. Until then it is lag.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from processors.kafka.clients import admin_client, reader
from processors.kafka.offsets import high_watermarks
from processors.kafka.poll import poll_records, read_positions
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable
from tables.changelog_row import FoundProblem, Problem, RowChecker, is_misplaced
from tables.replica import ContextReplica

log = logging.getLogger("cjstream.changelog_watch")
CHECKPOINT_S = 0.5  # between two checkpoints, while rows differ
RETRY_S = 5.0  # a rebalance drops rows that wait to be rewritten
MAX_KEPT_ROWS = 10_000  # differing rows in memory
RECORDS = 1000
MAX_KEY_BYTES = 1024  # a scope key has at most 411: 100 characters of an id, and its kind
TICK_S = 0.2
RowKey = tuple[int, bytes]  # partition and key
IsOwnRow = Callable[[int, int], bool]  # of a partition and an offset


@dataclass(slots=True)
class DifferingRow:
    """The newest row of a key that was read, if it differs, and when it was last passed to the repair."""

    value: bytes | None
    found: FoundProblem
    reported_at_s: float | None = None  # by `time.monotonic()`


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The positions that the fold had processed, then the ends of the log; `pending` partitions are not read so far."""

    processed: Positions
    ends: Positions
    pending: set[int]


@dataclass(frozen=True, slots=True)
class WrongRow:
    """A row of the changelog that is wrong for good."""

    partition: int
    key: bytes
    problem: Problem


class ChangelogWatch:
    """Reads the owned partitions of the changelog, on a thread, and finds the rows that are wrong.

    `processed` returns the position of each owned upload partition below which the changelog has every row of the fold.
    `own_rows` returns the test for rows that this worker has published in this assignment, at the time of the call:
    they are the replica's, and most rows are. `rest_s` returns how long to rest after a full batch, given the CPU time
    that it took.
    """

    def __init__(
        self,
        settings: Settings,
        checker: RowChecker,
        replica: ContextReplica,
        processed: Callable[[], Positions],
        own_rows: Callable[[], IsOwnRow],
        fail: Callable[[BaseException], None],
        rest_s: Callable[[float], float],
        max_kept_rows: int = MAX_KEPT_ROWS,
    ) -> None:
        self._max_kept_rows = max_kept_rows
        self._settings = settings
        self._topic = settings.topics.context.name
        self._checker = checker
        self._replica = replica
        self._processed = processed
        self._own_rows = own_rows
        self._fail = fail
        self._rest_s = rest_s
        self._owned: frozenset[int] = frozenset()
        self._differing: dict[RowKey, DifferingRow] = {}
        self._checkpoint: Checkpoint | None = None
        self._next_checkpoint_s = 0.0
        # while too many rows differ, only keys that are kept are read on; then it is read from here again
        self._read_again_from: dict[int, int] | None = None
        self._wrong: list[WrongRow] = []
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

    def wrong_rows(self) -> list[WrongRow]:
        """The rows found wrong since the last call; one that stays wrong is returned again after `RETRY_S`."""
        with self._lock:
            wrong, self._wrong = self._wrong, []
        return wrong

    def _run(self) -> None:
        consumer = reader(self._settings, **{"auto.offset.reset": "earliest"})
        admin = admin_client(self._settings)
        reading: frozenset[int] = frozenset()
        try:
            while not self._stopping.is_set():
                reading = self._reassign(consumer, reading, self._owned)
                self._advance(consumer)
                if self._differing or self._read_again_from is not None:
                    self._judge(consumer, admin, reading)
        except BaseException as fault:  # noqa: BLE001 (whatever it is, the process must end)
            self._fail(fault)
        finally:
            consumer.close()

    def _reassign(
        self, consumer: Consumer, reading: frozenset[int], owned: frozenset[int]
    ) -> frozenset[int]:
        if reading == owned:
            return owned
        self._checkpoint = None
        if lost := reading - owned:
            consumer.incremental_unassign(
                [TopicPartition(self._topic, partition) for partition in lost]
            )
            self._differing = {
                key: row for key, row in self._differing.items() if key[0] not in lost
            }
        if gained := owned - reading:
            self._read_from(consumer, dict.fromkeys(gained, OFFSET_BEGINNING))
        if self._read_again_from is not None:
            known = self._read_again_from
            self._read_again_from = {one: known.get(one, OFFSET_BEGINNING) for one in owned}
        return owned

    def _read_from(self, consumer: Consumer, starts: Mapping[int, int]) -> None:
        consumer.incremental_assign(
            [TopicPartition(self._topic, number, start) for number, start in starts.items()]
        )

    def _advance(self, consumer: Consumer) -> None:
        if self._read_again_from is None and len(self._differing) >= self._max_kept_rows:
            self._read_again_from = self._read_to(consumer, self._owned)
        records = poll_records(consumer, RECORDS, TICK_S)
        started_s = time.thread_time()
        is_own = self._own_rows() if records else None
        for record in records:
            partition, offset = record.partition() or 0, record.offset() or 0
            if is_own is not None and is_own(partition, offset):
                self._differing.pop((partition, record.key() or b""), None)
            else:
                self._compare(record)
        if len(records) == RECORDS:
            self._stopping.wait(self._rest_s(time.thread_time() - started_s))

    def _read_to(self, consumer: Consumer, numbers: frozenset[int]) -> dict[int, int]:
        """The position of each partition that is read; partitions of which nothing was read are at their start."""
        requested = [Partition(self._topic, number) for number in numbers]
        positions = read_positions(consumer, requested)
        return {one.partition: positions.get(one, OFFSET_BEGINNING) for one in requested}

    def _compare(self, message: Message) -> None:
        partition, key, value = message.partition() or 0, message.key() or b"", message.value()
        row_key = (partition, key)
        if (
            len(key) > MAX_KEY_BYTES
        ):  # it hides no row, and a tombstone for it may not fit in a request
            extra = {"at": f"{self._topic}/{partition}@{message.offset()}", "key_bytes": len(key)}
            log.warning(
                "a changelog record is no row: its key is too long for a scope", extra=extra
            )
            return
        if self._read_again_from is not None and row_key not in self._differing:
            return
        found = self._problem_of(partition, key, value)
        if found is None:
            self._differing.pop(row_key, None)
        else:
            self._differing[row_key] = DifferingRow(value, found)

    def _problem_of(
        self, partition: int, key: bytes, value: bytes | None, log_ends: Positions | None = None
    ) -> FoundProblem | None:
        if is_misplaced(key, partition, self._settings.partitions):
            return None if value is None else FoundProblem(Problem.MISPLACED)
        positions = self._replica.positions()  # before the context, which may then be newer
        known = self._replica.context(key.decode())
        return self._checker.check(key, partition, value, known, positions, log_ends)

    def _judge(self, consumer: Consumer, admin: AdminClient, reading: frozenset[int]) -> None:
        """Take a checkpoint if it is time, and judge the rows of the partitions that are read up to it."""
        if self._checkpoint is None:
            if time.monotonic() < self._next_checkpoint_s:
                return
            self._next_checkpoint_s = time.monotonic() + CHECKPOINT_S
            self._checkpoint = self._new_checkpoint(admin, reading)
        if (checkpoint := self._checkpoint) is None:
            return
        read_to = self._read_to(consumer, reading)
        reached = {
            number
            for number in checkpoint.pending
            if read_to[number] >= checkpoint.ends[Partition(self._topic, number)]
        }
        for (number, key), row in list(self._differing.items()):
            if number in reached:
                self._judge_row(number, key, row, checkpoint)
        checkpoint.pending.difference_update(reached)
        if not checkpoint.pending:
            self._checkpoint = None
        self._read_again_if_settled(consumer)

    def _new_checkpoint(self, admin: AdminClient, reading: frozenset[int]) -> Checkpoint | None:
        processed = self._processed()  # before the ends: the rows of these uploads are below them
        changelog = [Partition(self._topic, number) for number in reading]
        try:
            ends = high_watermarks(admin, [*changelog, *self._settings.upload_partitions])
        except Unreachable:
            return None
        with_rows = {number for number, _ in self._differing}
        return Checkpoint(processed, ends, with_rows & reading)

    def _judge_row(
        self, number: int, key: bytes, row: DifferingRow, checkpoint: Checkpoint
    ) -> None:
        if row.found.is_unproven:
            found = self._problem_of(number, key, row.value, checkpoint.ends)
            if found is None:
                del self._differing[number, key]
                return
            row.found = found
        is_lag = row.found.is_unproven or any(
            checkpoint.processed.get(partition, 0) < position
            for partition, position in row.found.lacks.items()
        )
        now = time.monotonic()
        if is_lag or (row.reported_at_s is not None and now - row.reported_at_s < RETRY_S):
            return
        row.reported_at_s = now
        with self._lock:
            self._wrong.append(WrongRow(number, key, row.found.problem))

    def _read_again_if_settled(self, consumer: Consumer) -> None:
        """Read again what was passed over, once there is room for rows that differ."""
        if self._read_again_from is not None and len(self._differing) < self._max_kept_rows // 2:
            starts, self._read_again_from = self._read_again_from, None
            consumer.incremental_unassign([TopicPartition(self._topic, one) for one in starts])
            self._read_from(consumer, starts)
