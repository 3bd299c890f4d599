"""One worker of the simulation: the product's own classes, wired as processors/app.py wires them."""

from collections import deque
from collections.abc import Sequence
from functools import cache, partial
from typing import cast

from confluent_kafka import Consumer, Producer

from processors.app import forget
from processors.batch_prep.preparer import Preparer
from processors.batch_prep.request_consumer import consumed_requests
from processors.exactly_once.batch import Batch
from processors.exactly_once.committer import Committer
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import GroupConsumer
from processors.kafka.bounded_wait import Clock
from processors.kafka.transactional_producer import TransactionalProducer
from processors.log.upload_topics import upload_record_of
from processors.outcomes.batch_splicer import OutcomeParts
from processors.outcomes.compiled_splicer import CompiledSplicer
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.parking.parked_topic import ParkedTopic
from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from tables.changed_scopes import ChangedScopes
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import UploadTopics
from tests.simulation.clients import (
    FakeProducer,
    GroupMember,
    Process,
    Reader,
    high_watermarks,
)
from tests.simulation.world import FOREVER, Actor, TurnLock, World

FETCH_WAIT_S = 0.2
PREPARED_BYTES = 1024 * 1024
SLOW_FEED = 0.2  # probability that the replica is behind when a batch waits for it


@cache
def _uploads(partitions: int) -> tuple[list[Partition], UploadTopics]:
    settings = Settings(partitions=partitions)
    return settings.upload_partitions, upload_topics(settings)


class FedReplica(ContextReplica):
    """A replica that folds when the simulation feeds it, and waits in virtual time."""

    def feed_from(self, world: World, partitions: Sequence[Partition]) -> None:
        """Start at the positions of the stored rows."""
        self._world = world
        self._partitions = partitions
        self._reader = Reader(Process(world, "feed"))
        known = self.open({})
        self._fed_positions = {partition: known.get(partition, 0) for partition in partitions}

    def feed(self, limit: int) -> None:
        """Fold up to `limit` more offsets of each partition; offsets without a committed record are skipped."""
        positions, records = dict[Partition, int](), []
        for partition in self._partitions:
            log = self._world.cluster.log(partition)
            start = self._fed_positions[partition]
            end = min(log.last_stable, start + limit)
            stored_records = (log.read(offset) for offset in range(start, end))
            records += [
                upload_record_of(stored.message) for stored in stored_records if stored is not None
            ]
            positions[partition] = self._fed_positions[partition] = end
        if records:
            self.fold(records, positions)
        else:
            self.advance(positions)

    def wait_past(self, watermarks: Positions, seconds: float) -> Positions:
        """Like ContextReplica.wait_past, in virtual time."""
        if not self._world.happens(SLOW_FEED):
            self.feed(1000)
        if (actor := self._world.running) is not None:
            actor.wait(lambda: not super(FedReplica, self).wait_past(watermarks, 0), seconds)
        return super().wait_past(watermarks, 0)


class Worker:
    """One process: its two threads and their shared objects."""

    def __init__(
        self, world: World, settings: Settings, codec: Codec, store: MemoryStore, name: str
    ) -> None:
        self._world = world
        self.settings = settings
        self.name = name
        self.process = Process(world, name)
        self._member = GroupMember(self.process, settings.slot)
        self._channel = deque[Batch]()
        self._is_ready = False
        self._build(codec, store)
        self.fetching = Actor(world, f"{name} fetch", self._fetch)
        self.committing = Actor(world, f"{name} commit", self._commit)

    def _build(self, codec: Codec, store: MemoryStore) -> None:
        world, settings, topics = self._world, self.settings, self.settings.topics
        clock = Clock(world.monotonic, world.sleep)
        changed_scopes = ChangedScopes(max_scopes=1)  # both ways of draining are used
        uploads, by_topic = _uploads(settings.partitions)
        self.replica = FedReplica(store, codec, by_topic)
        splicer = CompiledSplicer(
            OutcomeParts(
                codec, settings.policy, self.replica.context, self.replica.rows_of, topics
            ),
            PREPARED_BYTES,
        )
        self.replica.on_changed = partial(forget, splicer, changed_scopes)
        self.replica.feed_from(world, uploads)
        self.replica.feed(1000)
        epochs = FetchEpoch(TurnLock(world))
        producer_id = f"prep-{settings.slot or self.name}"
        self.producer = TransactionalProducer(
            lambda: cast(Producer, FakeProducer(self.process, producer_id)),
            settings.transaction_timeout_s,
            clock,
        )
        committer = Committer(epochs, self.producer)
        parked = ParkedTopic(
            topics,
            codec,
            settings.policy,
            self.replica.context,
            changed_scopes,
            lambda partitions: high_watermarks(self.process, partitions),
            lambda: cast(Consumer, Reader(self.process)),
            clock,
        )
        consumed = consumed_requests(
            settings,
            parked.take_over,
            lambda: cast(Consumer, Reader(self.process)),
            lambda _partitions: [],
            clock,
        )
        self.consumer = GroupConsumer(
            consumed,
            cast(Consumer, self._member),
            epochs,
            committer.commit,
            settings.batch_max,
            clock,
        )
        self.preparer = Preparer(
            settings,
            self.consumer,
            parked,
            self.replica,
            OutcomeBuilder(codec, settings.policy, self.replica.context),
            splicer,
            lambda: high_watermarks(self.process, uploads),
            committer,
        )
        self.committer = committer

    def _fetch(self) -> None:
        actor = self.fetching
        actor.wait(lambda: self._is_ready, FOREVER)
        self.consumer.join()
        while True:
            batch = self.preparer.next_batch(FETCH_WAIT_S)
            if batch is not None:
                actor.wait(lambda: not self._channel, FOREVER)
                self._channel.append(batch)
            actor.end_round()

    def _commit(self) -> None:
        actor = self.committing
        self.producer.take_over()
        self._is_ready = True
        while True:
            actor.wait(lambda: bool(self._channel), FOREVER)
            self.committer.commit(self._channel.popleft())
            actor.end_round()

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive

    @property
    def runs(self) -> bool:
        return self.process.is_alive and not self.process.is_frozen

    def heartbeat(self) -> None:
        """Its client's background thread sends a heartbeat to the broker."""
        if self.runs:
            self._member.membership.heartbeat(self._world.cluster.now_s)

    def keep_session(self) -> None:
        """Keep its session alive while time passes."""
        member = self._world.group.members.get(self._member.membership.name)
        if self.runs and member is not None:
            member.seen_at = self._world.cluster.now_s

    def run(self, actor: Actor, calls: int = 0, *, kill: bool = False) -> None:
        """Let one of its threads run; if the thread ends, the process ends."""
        if not self.runs:
            return
        actor.run(calls, kill=kill)
        if actor.has_ended:
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        if self.process.is_alive:
            self.process.is_alive = False
            self._world.record(f"{self.name} is dead")
            self.fetching.kill()
            self.committing.kill()

    def leave(self) -> None:
        """End the process after its member has left the group."""
        if self.runs:
            self._member.membership.leave()
            self.kill()

    @property
    def faults(self) -> list[Exception]:
        return [actor.fault for actor in (self.fetching, self.committing) if actor.fault]
