"""Fakes of the confluent-kafka clients that batch preparation uses, on the cluster in memory."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, Message, TopicPartition

from schemas.coordinates import Partition, Positions
from tests.simulation.group import Membership
from tests.simulation.log import Headers, Transaction, refused
from tests.simulation.world import World

LAG = 0.15  # probability that a record in the log is not fetched yet
LATE = 0.4  # probability that a commit returns before all its markers are written
STALL_S = 1.0


class Process:
    """The process of one worker as its clients see it: whether it is alive, and the faults of its calls."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_alive = True
        self.is_frozen = False
        self.stops = 0  # points where it may freeze or die: before and after each call
        self.freezes_at = self.dies_at = 0
        # the errors of its producer's next calls, and whether each is raised after the call's effect
        self.errors: list[tuple[KafkaException, bool]] = []
        self.calls_before_errors = 0  # calls that succeed before those errors
        self.failed_calls = 0

    def call(self, name: str, effect: Callable[[], Any], *, may_fail: bool = False) -> Any:
        """Make one client call; before and after it an actor may freeze or die."""
        self._stop()
        error, is_after = self._next_error() if may_fail else (None, False)
        self.world.record(f"{name} -> {error.args[0].name()}" if error else name)
        result = None if error and not is_after else effect()
        if error:
            raise error
        self._stop()
        return result

    def _stop(self) -> None:
        actor = self.world.running
        if actor is None:
            return
        self.stops += 1
        if not self.is_alive or self.stops == self.dies_at:
            actor.is_killed = True
        if self.stops == self.freezes_at:
            self.is_frozen = True
            actor.pause()
        actor.before_or_after_call()

    def _next_error(self) -> tuple[KafkaException | None, bool]:
        if self.calls_before_errors or not self.errors:
            self.calls_before_errors = max(0, self.calls_before_errors - 1)
            return None, False
        self.failed_calls += 1
        return self.errors.pop(0)


class Reader:
    """A consumer of assigned partitions that sees only committed records."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._next_offsets: dict[Partition, int] = {}
        self._known_positions: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._first_partition = 0

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        self._next_offsets, self._known_positions = {}, set()
        self.incremental_assign(partitions)

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        self._next_offsets.update(
            {Partition(tp.topic, tp.partition): tp.offset for tp in partitions}
        )

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        for tp in partitions:
            self._next_offsets.pop(Partition(tp.topic, tp.partition), None)
            self._known_positions.discard(Partition(tp.topic, tp.partition))
            self._paused.discard(Partition(tp.topic, tp.partition))

    def unassign(self) -> None:
        self.assign(())

    def position(self, request: Sequence[TopicPartition]) -> list[TopicPartition]:
        """The next offset of each partition; OFFSET_INVALID before its first record was fetched."""
        known = {partition: self._next_offsets[partition] for partition in self._known_positions}
        return [
            TopicPartition(
                tp.topic, tp.partition, known.get(Partition(tp.topic, tp.partition), OFFSET_INVALID)
            )
            for tp in request
        ]

    def get_watermark_offsets(self, tp: TopicPartition, **_: Any) -> tuple[int, int]:
        log = self._world.cluster.log(Partition(tp.topic, tp.partition))
        return 0, log.last_stable

    def offsets_for_times(self, request: list[TopicPartition], **_: Any) -> list[TopicPartition]:
        """The first record of each partition at that time or later, if it is stable; -1 if there is none."""
        logs = {tp: self._world.cluster.log(Partition(tp.topic, tp.partition)) for tp in request}
        return [
            TopicPartition(
                tp.topic,
                tp.partition,
                next(
                    (
                        offset
                        for offset, stored in enumerate(log.records)
                        if offset < log.last_stable
                        and stored is not None
                        and stored.message.timestamp()[1] >= tp.offset
                    ),
                    -1,
                ),
            )
            for tp, log in logs.items()
        ]

    def poll(self, wait_s: float) -> Message | None:
        message: Message | None = self._process.call("poll", lambda: self._next(wait_s))
        return message

    def _next(self, wait_s: float) -> Message | None:
        message = None if self._world.happens(LAG) else self.take()
        if message is None and wait_s and self._world.running is not None:
            stall_s = STALL_S if self._world.happens(0.2) else 0.0
            self._world.running.wait(self.has_more, max(wait_s, stall_s))
            message = self.take()
        return message

    def consume(self, limit: int, _wait_s: float) -> list[Message]:
        messages = list[Message]()
        while len(messages) < limit and not self._world.happens(LAG):
            message = self.take()
            if message is None:  # compare with None: a tombstone is false
                break
            messages.append(message)
        return messages

    def has_more(self) -> bool:
        return any(
            offset < self._world.cluster.log(partition).last_stable
            for partition, offset in self._next_offsets.items()
            if partition not in self._paused
        )

    def take(self) -> Message | None:
        """The next committed record of any partition; positions also pass markers and aborted records."""
        assigned = sorted(self._next_offsets.keys() - self._paused)
        self._first_partition += 1
        first = self._first_partition % len(assigned) if assigned else 0
        for partition in assigned[first:] + assigned[:first]:
            log = self._world.cluster.log(partition)
            while self._next_offsets[partition] < log.last_stable:
                stored = log.read(self._next_offsets[partition])
                self._next_offsets[partition] += 1
                self._known_positions.add(partition)
                if stored is not None:
                    return stored.message
        return None

    def close(self) -> None:
        self._next_offsets = {}


class GroupMember(Reader):
    """A member of the group."""

    def __init__(self, process: Process, instance: str) -> None:
        super().__init__(process)
        self.membership = Membership(self._world.group, instance)
        self._callbacks: dict[str, Callable[..., None]] = {}

    def subscribe(
        self,
        _topics: list[str],
        *,
        on_assign: Callable[..., None],
        on_revoke: Callable[..., None],
        on_lost: Callable[..., None],
    ) -> None:
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}
        self.membership.subscribe()

    def consumer_group_metadata(self) -> bytes:
        metadata: bytes = self._process.call("group metadata", self.membership.metadata)
        return metadata

    def _next(self, wait_s: float) -> Message | None:
        if self.membership.is_fenced:
            # as the library does: without the mark, and with its cause in the text only
            cause = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
            return Message(error=KafkaError(KafkaError._FATAL, f"Fatal error: {cause}"))
        if self.membership.events:
            self._call_back(*self.membership.events.pop(0))
            return None
        return super()._next(wait_s)

    def has_more(self) -> bool:
        return bool(self.membership.events) or super().has_more()

    def consume(self, limit: int, wait_s: float) -> list[Message]:
        if self.membership.events:
            self._call_back(*self.membership.events.pop(0))
        return super().consume(limit, wait_s)

    def _call_back(self, kind: str, partitions: set[Partition]) -> None:
        self._world.record(f"{kind} {sorted(tp.partition for tp in partitions)}")
        if kind == "assign":
            self.membership.assigned |= partitions
        client_partitions = [TopicPartition(tp.topic, tp.partition) for tp in sorted(partitions)]
        self._callbacks[kind](self, client_partitions)
        if kind != "assign":
            self.membership.assigned -= partitions
        if kind == "revoke":
            self.membership.release(partitions)

    def seek(self, tp: TopicPartition) -> None:
        if Partition(tp.topic, tp.partition) not in self._next_offsets:
            raise refused(KafkaError._STATE)
        self._next_offsets[Partition(tp.topic, tp.partition)] = tp.offset

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._paused |= {Partition(tp.topic, tp.partition) for tp in partitions}

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self._paused -= {Partition(tp.topic, tp.partition) for tp in partitions}

    def committed(self, request: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """The committed offsets, as soon as they are stable. Raises if they are not within the timeout."""
        partitions = [Partition(tp.topic, tp.partition) for tp in request]
        offsets: list[TopicPartition] = self._process.call(
            "committed", lambda: self._stable(partitions, timeout)
        )
        return offsets

    def _stable(self, partitions: list[Partition], timeout_s: float) -> list[TopicPartition]:
        cluster, actor = self._world.cluster, self._world.running
        assert actor is not None
        if not actor.wait(lambda: cluster.is_stable(partitions), timeout_s):
            raise refused(KafkaError._TIMED_OUT, retriable=True)
        known = {
            partition: cluster.committed.get(partition, (OFFSET_INVALID, 0))[0]
            for partition in partitions
        }
        return [TopicPartition(tp.topic, tp.partition, offset) for tp, offset in known.items()]

    def close(self) -> None:
        super().close()
        self.membership.leave()


class FakeProducer:
    """The transactional producer of one process."""

    def __init__(self, process: Process, name: str) -> None:
        self._process = process
        self._world = process.world
        self._name = name
        self._epoch = 0
        self._queue: list[tuple[Partition, bytes | None, bytes | None, Headers]] = []
        self._sends_at_once = False
        self._decided = False

    def init_transactions(self, _timeout_s: float) -> None:
        def init() -> None:
            self._epoch = self._world.cluster.init(self._name)

        self._process.call("init_transactions", init)

    def begin_transaction(self) -> None:
        def begin() -> None:
            self._sends_at_once = self._world.happens(0.5)
            self._decided = False

        self._process.call("begin", begin, may_fail=True)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        _callback: None = None,
        _on_delivery: None = None,
        _timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        def queue() -> None:
            self._queue.append((Partition(topic, partition), key, value, headers or []))
            if self._sends_at_once:
                self._flush()

        self._process.call(f"produce to {topic}/{partition}", queue)

    def poll(self, _wait_s: float) -> None:
        pass

    def send_offsets_to_transaction(
        self, offsets: list[TopicPartition], metadata: bytes, _timeout_s: float
    ) -> None:
        def send() -> None:
            self._world.group.check(metadata)
            positions = {Partition(tp.topic, tp.partition): tp.offset for tp in offsets}
            self._world.cluster.add_offsets(self._transaction(), positions)

        by_partition = {f"{tp.topic}/{tp.partition}": tp.offset for tp in offsets}
        self._process.call(f"send offsets {by_partition}", send, may_fail=True)

    def commit_transaction(self, _timeout_s: float) -> None:
        if not self._decided:
            self._process.call("flush", self._flush, may_fail=True)
        self._process.call("commit", lambda: self._end(commit=True), may_fail=True)

    def abort_transaction(self, _timeout_s: float) -> None:
        self._queue = []
        self._process.call("abort", lambda: self._end(commit=False))

    def _transaction(self) -> Transaction:
        return self._world.cluster.transaction_of(self._name, self._epoch)

    def _flush(self) -> None:
        while self._queue:
            self._world.cluster.append(*self._queue.pop(0), self._transaction())

    def _end(self, *, commit: bool) -> None:
        transaction = self._world.cluster.end(self._name, self._epoch, commit=commit)
        self._decided = True
        if transaction is not None:
            write_most_markers(self._world, transaction)


def write_most_markers(world: World, transaction: Transaction) -> None:
    """Write most markers before the commit returns; some stay missing, in random order."""
    some_are_late = world.happens(LATE)
    for partition in list(transaction.targets):
        if not (some_are_late and world.happens(0.5)):
            world.cluster.write_marker(transaction, partition)


def high_watermarks(process: Process, partitions: Iterable[Partition]) -> Positions:
    """Like processors.kafka.offsets.high_watermarks."""

    def read() -> Positions:
        logs = process.world.cluster.log
        return {partition: logs(partition).high_watermark for partition in partitions}

    watermarks: Positions = process.call("high watermarks", read)
    return watermarks
