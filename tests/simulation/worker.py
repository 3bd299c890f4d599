"""One worker of the simulation: the product's own parts, wired as processors/app.py wires them."""

from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import cast

from confluent_kafka import Consumer, Producer

from processors.batch_prep.preparer import Preparer
from processors.batch_prep.request_consumer import consumed_requests
from processors.exactly_once.assignment_epoch import AssignmentEpoch
from processors.exactly_once.batch import Batch
from processors.exactly_once.batch_producer import BatchProducer
from processors.exactly_once.committer import Committer
from processors.exactly_once.group_consumer import GroupConsumer
from processors.kafka.bounded_wait import Clock
from processors.kafka.broker_clock import BrokerClock
from processors.log.upload_topics import upload_record_of
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.parking.parked_topic import ParkedTopic
from processors.settings import Settings, upload_partitions, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from tables.changed_scopes import ChangedScopes
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import UploadTopics
from tests.simulation.clients import (
    GroupMember,
    Process,
    Reader,
    TransactionalProducer,
    high_watermarks,
)
from tests.simulation.world import FOREVER, Actor, TurnLock, World

FETCH_WAIT_S = 0.2
SLOW_FEED = 0.2  # how often the replica is still behind when a batch asks


@cache
def _uploads(partitions: int) -> tuple[list[Partition], UploadTopics]:
    settings = Settings(partitions=partitions)
    return upload_partitions(settings), upload_topics(settings)


class FedReplica(ContextReplica):
    """A replica that is fed where the simulation says, and waited for in its time."""

    def feed_from(self, world: World, partitions: Sequence[Partition]) -> None:
        """Go on from where the rows stand."""
        self._world = world
        self._partitions = partitions
        self._reader = Reader(Process(world, "feed"))
        known = self.open({})
        self._at = {at: known.get(at, 0) for at in partitions}

    def feed(self, most: int) -> None:
        """Fold at most so many records of each partition; the position passes what is none."""
        positions, records = dict[Partition, int](), []
        for at in self._partitions:
            log = self._world.cluster.log(at)
            offset, end = self._at[at], min(log.last_stable, self._at[at] + most)
            found = (log.read(one) for one in range(offset, end))
            records += [upload_record_of(one.message) for one in found if one is not None]
            positions[at] = self._at[at] = end
        if records:
            self.fold(records, positions)
        else:
            self.advance(positions)

    def wait_past(self, watermarks: Positions, seconds: float) -> Positions:
        """As the replica's own, in virtual time."""
        if not self._world.likely(SLOW_FEED):
            self.feed(1000)
        if (actor := self._world.running) is not None:
            actor.wait(lambda: not super(FedReplica, self).wait_past(watermarks, 0), seconds)
        return super().wait_past(watermarks, 0)


class Worker:
    """One process, its two threads and what they share."""

    def __init__(
        self, world: World, settings: Settings, codec: Codec, store: MemoryStore, name: str
    ) -> None:
        self._world = world
        self.settings = settings
        self.name = name
        self.process = Process(world, name)
        self._consumer = GroupMember(self.process, settings.slot)
        self._lane = deque[Batch]()
        self._is_ready = False
        self._build(codec, store)
        self.fetching = Actor(world, f"{name} fetch", self._fetch)
        self.committing = Actor(world, f"{name} commit", self._commit)

    def _build(self, codec: Codec, store: MemoryStore) -> None:
        world, settings, topics = self._world, self.settings, self.settings.topics
        machine = Clock(world.monotonic, world.sleep)
        arrivals = ChangedScopes()
        uploads, by_topic = _uploads(settings.partitions)
        self.replica = FedReplica(store, codec, by_topic, arrivals.add)
        self.replica.feed_from(world, uploads)
        self.replica.feed(1000)
        ownership = AssignmentEpoch(TurnLock(world))
        own_id = f"prep-{settings.slot or self.name}"
        self.outbox = BatchProducer(
            lambda: cast(Producer, TransactionalProducer(self.process, own_id)),
            settings.transaction_timeout_s,
            machine,
        )
        committer = Committer(ownership, self.outbox)
        clock = BrokerClock(world.monotonic)
        parking = ParkedTopic(
            topics.parked.name,
            codec,
            settings.policy,
            self.replica.context,
            arrivals,
            clock,
            lambda partitions: high_watermarks(self.process, partitions),
            lambda: cast(Consumer, Reader(self.process)),
            machine,
        )
        consumed = consumed_requests(
            settings,
            parking.take_over,
            lambda: cast(Consumer, Reader(self.process)),
            machine,
        )
        self.fetcher = GroupConsumer(
            consumed,
            cast(Consumer, self._consumer),
            ownership,
            committer.commit,
            settings.batch_max,
            machine,
        )
        self.preparer = Preparer(
            settings,
            self.fetcher,
            parking,
            clock,
            self.replica,
            OutcomeBuilder(codec, settings.policy, self.replica.context),
            lambda: high_watermarks(self.process, uploads),
            ownership,
            committer,
        )
        self.committer = committer

    def _fetch(self) -> None:
        me = self.fetching
        me.wait(lambda: self._is_ready, FOREVER)
        self.fetcher.join()
        while True:
            batch = self.preparer.next_batch(FETCH_WAIT_S)
            if batch is not None:
                me.wait(lambda: not self._lane, FOREVER)
                self._lane.append(batch)
            me.round_over()

    def _commit(self) -> None:
        me = self.committing
        self.outbox.recreate()
        self._is_ready = True
        while True:
            me.wait(lambda: bool(self._lane), FOREVER)
            self.committer.commit(self._lane.popleft())
            me.round_over()

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive

    @property
    def runs(self) -> bool:
        return self.process.is_alive and not self.process.is_frozen

    def beat(self) -> None:
        """Its client's background thread speaks with the broker."""
        if self.runs:
            self._consumer.membership.beat(self._world.cluster.now_s)

    def stay(self) -> None:
        """Its session goes on while time passes."""
        member = self._world.group.members.get(self._consumer.membership.name)
        if self.runs and member is not None:
            member.seen_at = self._world.cluster.now_s

    def run(self, actor: Actor, calls: int = 0, *, kill: bool = False) -> None:
        """Let one of its threads go on; the process ends with it."""
        if not self.runs:
            return
        actor.run(calls, kill=kill)
        if actor.is_over:
            self.kill()

    def kill(self) -> None:
        """The process ends at once."""
        if self.process.is_alive:
            self.process.is_alive = False
            self._world.tell(f"{self.name} is dead")
            self.fetching.kill()
            self.committing.kill()

    def leave(self) -> None:
        """The process ends; its member leaves the group."""
        if self.runs:
            self._consumer.membership.leave()
            self.kill()

    @property
    def faults(self) -> list[Exception]:
        return [one.fault for one in (self.fetching, self.committing) if one.fault]
