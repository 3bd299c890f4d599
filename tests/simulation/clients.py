"""Stand-ins for the clients of confluent-kafka that batch preparation uses, on the cluster in memory."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, Message, TopicPartition

from schemas.coordinates import Partition, Positions
from tests.simulation.group import Membership
from tests.simulation.log import Headers, Transaction, refused
from tests.simulation.world import World

LAG = 0.15  # how often what is in the log has not been fetched yet
LATE = 0.4  # how often a marker is not there when its commit returns
STALL_S = 1.0


class Process:
    """One worker's process, seen from its clients: whether it lives, and which call it makes."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_alive = True
        self.is_frozen = False
        self.stops = 0  # where it may stand or die: before each call and after it
        self.stands_at = self.dies_at = 0
        # what its producer's next calls come to, each before its effect or after it
        self.errors: list[tuple[KafkaException, bool]] = []
        self.spared = 0  # calls before those errors come
        self.failed = 0  # calls that came to one

    def call(self, name: str, effect: Callable[[], Any], *, may_fail: bool = False) -> Any:
        """One call into a client; before it and after it an actor may stand, or die."""
        self._stop()
        error, is_after = self._error() if may_fail else (None, False)
        self.world.tell(f"{name} -> {error.args[0].name()}" if error else name)
        answer = None if error and not is_after else effect()
        if error:
            raise error
        self._stop()
        return answer

    def _stop(self) -> None:
        actor = self.world.running
        if actor is None:
            return
        self.stops += 1
        if not self.is_alive or self.stops == self.dies_at:
            actor.is_killed = True
        if self.stops == self.stands_at:
            self.is_frozen = True
            actor.stand()
        actor.stop_here()

    def _error(self) -> tuple[KafkaException | None, bool]:
        if self.spared or not self.errors:
            self.spared = max(0, self.spared - 1)
            return None, False
        self.failed += 1
        return self.errors.pop(0)


class Reader:
    """A consumer of assigned partitions that sees committed records only."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._at: dict[Partition, int] = {}
        self._moved: set[Partition] = set()  # whose position is known
        self._turn = 0

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        self._at, self._moved = {}, set()
        self.incremental_assign(partitions)

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        self._at.update({Partition(at.topic, at.partition): at.offset for at in partitions})

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        for at in partitions:
            self._at.pop(Partition(at.topic, at.partition), None)
            self._moved.discard(Partition(at.topic, at.partition))

    def unassign(self) -> None:
        self.assign(())

    def position(self, asked: Sequence[TopicPartition]) -> list[TopicPartition]:
        """The next offset; not known before anything was fetched."""
        known = {at: self._at[at] for at in self._moved}
        return [
            TopicPartition(
                at.topic, at.partition, known.get(Partition(at.topic, at.partition), OFFSET_INVALID)
            )
            for at in asked
        ]

    def get_watermark_offsets(self, at: TopicPartition, **_: Any) -> tuple[int, int]:
        log = self._world.cluster.log(Partition(at.topic, at.partition))
        return 0, log.last_stable

    def poll(self, wait_s: float) -> Message | None:
        message: Message | None = self._process.call("poll", lambda: self._next(wait_s))
        return message

    def _next(self, wait_s: float) -> Message | None:
        found = None if self._world.likely(LAG) else self.take()
        if found is None and wait_s and self._world.running is not None:
            stall_s = STALL_S if self._world.likely(0.2) else 0.0
            self._world.running.wait(self.has_more, max(wait_s, stall_s))
            found = self.take()
        return found

    def consume(self, most: int, _wait_s: float) -> list[Message]:
        found = list[Message]()
        while len(found) < most and not self._world.likely(LAG):
            one = self.take()
            if one is None:  # a tombstone is false
                break
            found.append(one)
        return found

    def has_more(self) -> bool:
        return any(
            offset < self._world.cluster.log(at).last_stable for at, offset in self._at.items()
        )

    def take(self) -> Message | None:
        """The next record of any partition; positions pass what is none."""
        ones = sorted(self._at)
        self._turn += 1
        for at in ones[self._turn % len(ones) :] + ones[: self._turn % len(ones)] if ones else ():
            log = self._world.cluster.log(at)
            while self._at[at] < log.last_stable:
                stored = log.read(self._at[at])
                self._at[at] += 1
                self._moved.add(at)
                if stored is not None:
                    return stored.message
        return None

    def close(self) -> None:
        self._at = {}


class GroupMember(Reader):
    """A member of the group."""

    def __init__(self, process: Process, instance: str) -> None:
        super().__init__(process)
        self.membership = Membership(self._world.group, instance)
        self._told: dict[str, Callable[..., None]] = {}

    def subscribe(
        self,
        _topics: list[str],
        *,
        on_assign: Callable[..., None],
        on_revoke: Callable[..., None],
        on_lost: Callable[..., None],
    ) -> None:
        self._told = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}
        self.membership.subscribe()

    def consumer_group_metadata(self) -> bytes:
        metadata: bytes = self._process.call("group metadata", self.membership.metadata)
        return metadata

    def _next(self, wait_s: float) -> Message | None:
        if self.membership.is_fenced:
            fatal = KafkaError(KafkaError.FENCED_INSTANCE_ID, "simulated", fatal=True)
            return Message(error=fatal)
        if self.membership.events:
            self._tell(*self.membership.events.pop(0))
            return None
        return super()._next(wait_s)

    def has_more(self) -> bool:
        return bool(self.membership.events) or super().has_more()

    def consume(self, most: int, wait_s: float) -> list[Message]:
        if self.membership.events:
            self._tell(*self.membership.events.pop(0))
        return super().consume(most, wait_s)

    def _tell(self, kind: str, partitions: set[Partition]) -> None:
        self._world.tell(f"{kind} {sorted(at.partition for at in partitions)}")
        if kind == "assign":
            self.membership.assigned |= partitions
        named = [TopicPartition(at.topic, at.partition) for at in sorted(partitions)]
        self._told[kind](self, named)
        if kind != "assign":
            self.membership.assigned -= partitions
        if kind == "revoke":
            self.membership.let_go(partitions)

    def seek(self, at: TopicPartition) -> None:
        if Partition(at.topic, at.partition) not in self._at:
            raise refused(KafkaError._STATE)
        self._at[Partition(at.topic, at.partition)] = at.offset

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Stable offsets; they are waited for. Raises where the time is up."""
        partitions = [Partition(at.topic, at.partition) for at in asked]
        answer: list[TopicPartition] = self._process.call(
            "committed", lambda: self._stable(partitions, timeout)
        )
        return answer

    def _stable(self, partitions: list[Partition], timeout_s: float) -> list[TopicPartition]:
        cluster, actor = self._world.cluster, self._world.running
        assert actor is not None
        if not actor.wait(lambda: cluster.is_stable(partitions), timeout_s):
            raise refused(KafkaError._TIMED_OUT, retriable=True)
        known = {at: cluster.committed.get(at, (OFFSET_INVALID, 0))[0] for at in partitions}
        return [TopicPartition(at.topic, at.partition, offset) for at, offset in known.items()]

    def close(self) -> None:
        super().close()
        self.membership.leave()


class TransactionalProducer:
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
            self._sends_at_once = self._world.likely(0.5)
            self._decided = False

        self._process.call("begin", begin, may_fail=True)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Headers,
    ) -> None:
        def queue() -> None:
            self._queue.append((Partition(topic, partition), key, value, headers))
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
            positions = {Partition(at.topic, at.partition): at.offset for at in offsets}
            self._world.cluster.offsets(self._transaction(), positions)

        told = {f"{at.topic}/{at.partition}": at.offset for at in offsets}
        self._process.call(f"send offsets {told}", send, may_fail=True)

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
        ended = self._world.cluster.end(self._name, self._epoch, commit=commit)
        self._decided = True
        if ended is not None:
            deliver(self._world, ended)


def deliver(world: World, transaction: Transaction) -> None:
    """Most markers arrive before the commit returns; some do not, in whatever order."""
    late = world.likely(LATE)
    for at in list(transaction.targets):
        if not (late and world.likely(0.5)):
            world.cluster.write_marker(transaction, at)


def high_watermarks(process: Process, partitions: Iterable[Partition]) -> Positions:
    """As processors.cluster has them."""

    def ask() -> Positions:
        return {at: process.world.cluster.log(at).high_watermark for at in partitions}

    answer: Positions = process.call("high watermarks", ask)
    return answer
