"""The composition root: wires a worker, or the API's log, from settings. Nothing connects before it runs."""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import faust
from confluent_kafka.admin import AdminClient

from processors.batch_prep.preparer import Preparer
from processors.dead_letters.upload_dead_letters import UploadDeadLetters
from processors.exactly_once.assignment_epoch import Ownership
from processors.exactly_once.batch_producer import Outbox
from processors.exactly_once.committer import Committer
from processors.exactly_once.group_consumer import Fetcher
from processors.fold.bounded_channel import BoundedChannel
from processors.fold.changelog_repair import Reassertion
from processors.fold.faust_app import build_app
from processors.fold.fold_agents import Fatal, add_folding
from processors.fold.replica_feed import ReplicaFeed
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.clients import (
    admin_client,
    group_member,
    plain_producer,
    reader,
    transactional_id,
    transactional_producer,
)
from processors.kafka.offsets import high_watermarks
from processors.outcomes.outcome_builder import Answers
from processors.parking.parked_topic import Parking
from processors.settings import Settings, upload_partitions, upload_topics
from processors.upload_log.fenced_producer import Appender
from processors.upload_log.partition_writer import PartitionWriter
from processors.upload_log.scope_index import Listing
from processors.upload_log.upload_log import AdminLog
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from tables.changed_scopes import Arrivals
from tables.replica import ContextReplica
from tables.store import RocksStore

log = logging.getLogger("cjstream.worker")
LANE_BATCHES = 1  # one waits while one commits and one is prepared


@dataclass(frozen=True, slots=True)
class Worker:
    """The parts of one worker, built and not yet started."""

    settings: Settings
    admin: AdminClient
    replica: ContextReplica
    feed: ReplicaFeed
    ownership: Ownership
    outbox: Outbox
    committer: Committer
    parking: Parking
    fetcher: Fetcher
    preparer: Preparer
    app: faust.App
    reassertion: Reassertion
    lane: BoundedChannel


def build_worker(settings: Settings, fatal: Fatal, codec: Codec) -> Worker:
    """Wire one worker; `fatal` is told, from any thread, why it cannot go on.

    The replica's folder is opened; brokers are asked nothing before the worker runs.
    """
    topics = settings.topics
    admin = admin_client(settings)
    arrivals = Arrivals()
    replica = open_replica(settings, codec, settings.worker_dir, arrivals.add)
    ownership = Ownership()
    own_id = transactional_id(settings)  # one for all of this worker's producers: the next fences
    outbox = Outbox(
        lambda: transactional_producer(settings, own_id), timeout_s=settings.transaction_timeout_s
    )
    committer = Committer(ownership, outbox)
    clock = BrokerClock()
    parking = Parking(
        topics.parked.name,
        codec,
        settings.policy,
        replica.context,
        arrivals,
        clock,
        lambda partitions: high_watermarks(admin, partitions),
        lambda: reader(settings),
    )
    fetcher = Fetcher(
        settings,
        group_member(settings, settings.prep_group),
        ownership,
        committer.commit,
        parking.take_over,
    )
    uploads = upload_partitions(settings)
    preparer = Preparer(
        settings,
        fetcher,
        parking,
        clock,
        replica,
        Answers(codec, settings.policy, replica.context),
        lambda: high_watermarks(admin, uploads),
        ownership,
        committer,
    )
    app = build_app(settings)
    dead_letters = UploadDeadLetters(settings, plain_producer(settings))
    table = add_folding(app, settings, codec, dead_letters.put, fatal)
    reassertion = Reassertion(app, settings, codec, replica, table, fatal)
    lane = BoundedChannel(app, maxsize=LANE_BATCHES)
    feed = ReplicaFeed(settings, replica, fatal)
    return Worker(
        settings,
        admin,
        replica,
        feed,
        ownership,
        outbox,
        committer,
        parking,
        fetcher,
        preparer,
        app,
        reassertion,
        lane,
    )


def build_admin(settings: Settings, fatal: Fatal, codec: Codec) -> AdminLog:
    """Wire the API's log; `fatal` is told, from any thread, why it cannot go on.

    The replica's folder is opened; brokers are asked nothing before it is started.
    """
    replica = open_replica(settings, codec, settings.api_dir)

    def new_writer(
        number: int, watermarks: Callable[[Iterable[Partition]], Positions]
    ) -> PartitionWriter:
        partitions = tuple(Partition(topic.name, number) for topic in settings.topics.uploads)
        appender = Appender(settings, codec, number)
        return PartitionWriter(appender, replica, partitions, watermarks, lambda: str(uuid4()))

    return AdminLog(
        settings,
        admin_client(settings),
        replica,
        ReplicaFeed(settings, replica, fatal),
        Listing(replica.context),
        new_writer,
        fatal,
    )


def open_replica(
    settings: Settings,
    codec: Codec,
    process_dir: Path,
    changed: Callable[[Collection[str]], None] | None = None,
) -> ContextReplica:
    """The replica of a worker or an API process, below a folder of its own.

    changed is told the scope keys of every fold.
    """
    store = RocksStore(process_dir / "replica", cache_mb=settings.replica_cache_mb)
    return ContextReplica(store, codec, upload_topics(settings), changed)
