"""The composition root: wires a worker, or the API's upload log, from settings. Nothing connects before it runs."""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import faust
from confluent_kafka.admin import AdminClient

from processors.batch_prep.offset_check import wrong_offsets
from processors.batch_prep.prepare_agent import BatchPreparation
from processors.batch_prep.preparer import Preparer
from processors.batch_prep.request_consumer import consumed_requests
from processors.dead_letters.upload_dead_letters import put_upload_dead_letter
from processors.exactly_once.committer import Committer
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import GroupConsumer
from processors.exactly_once.observer import NoObserver, Observer
from processors.exactly_once.slot import slot_of
from processors.fold.bounded_channel import BoundedChannel
from processors.fold.changelog_repair import ChangelogRepair
from processors.fold.faust_app import CJStreamApp, build_app
from processors.fold.fold_agents import Fail, add_folding
from processors.fold.giving_way import GivingWay
from processors.fold.replica_feed import ReplicaFeed, open_replica
from processors.kafka.clients import (
    SENT_BY_COMMIT,
    admin_client,
    group_member,
    plain_producer,
    reader,
    transactional_id,
)
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import high_watermarks, last_stable_offsets
from processors.kafka.records import Headers
from processors.kafka.topic_admin import seen_topics
from processors.kafka.transactional_producer import TransactionalProducer, producer_with_id
from processors.kafka.transactions import hanging_transactions, open_transactions_or_none
from processors.log.leftover_transactions import end_leftovers
from processors.monitoring.fold_progress import fold_positions
from processors.monitoring.metrics_server import MetricsServer, Served
from processors.monitoring.progress_probes import (
    batch_prep_probe,
    group_of,
    is_unread,
    membership_checks,
    membership_probe,
    reader_probe,
)
from processors.monitoring.watchdog import (
    Watchdog,
    in_background,
    watch_topics,
    watch_transactions,
)
from processors.monitoring.worker_metrics import WorkerMetrics, WorkerState
from processors.monitoring.worker_status import StatusFile
from processors.outcomes.batch_splicer import BatchSplicer, OutcomeParts
from processors.outcomes.outcome_builder import OutcomeBuilder
from processors.outcomes.plain_splicer import PlainSplicer
from processors.parking.parked_topic import ParkedTopic
from processors.settings import Settings
from processors.shutdown import Shutdown
from processors.upload_log.reappend import UploadRestorer
from schemas.codec import Codec
from schemas.coordinates import Positions
from schemas.errors import Malformed
from tables.changed_scopes import ChangedScopes
from tables.replica import ContextReplica
from tables.scan.engine import load_engine
from tables.scan.plain import PlainEngine
from tables.scan.scanner import Engine
from tables.upload_record import UploadRecord

KERNELS = ("processors.outcomes.splice_kernels", "processors.outcomes.part_kernels")
MAX_WAITING_BATCHES = 1  # one batch waits while one commits and one is prepared


@dataclass(frozen=True, slots=True)
class Worker:
    """The objects that one worker consists of, built but not started."""

    settings: Settings
    admin: AdminClient
    replica: ContextReplica
    feed: ReplicaFeed
    batch_prep: BatchPreparation
    app: faust.App
    channel: BoundedChannel
    changelog_repair: ChangelogRepair
    metrics: WorkerMetrics | None  # None: nothing serves them
    has_caught_up: threading.Event = field(default_factory=threading.Event)  # at the start


def load_scan_engine(settings: Settings) -> Engine:
    """The engine that checks records, and everything compiled that a worker needs; the first time takes seconds."""
    return load_engine(settings.scan_engine, settings.data_dir / "numba", KERNELS)


def build_worker(settings: Settings, fail: Fail, codec: Codec, engine: Engine) -> Worker:
    """Wire one worker; faults that must end it are passed to `fail`, from any thread.

    Opens the replica's folder, but contacts no broker before the worker runs.
    """
    admin = admin_client(settings)
    changed_scopes = ChangedScopes()
    replica = open_replica(settings, codec, settings.worker_dir, engine=engine)
    splicer = build_splicer(settings, codec, replica, engine)
    replica.on_changed = partial(forget, splicer, changed_scopes)
    app = build_app(settings)
    put_dead_letter = partial(
        put_upload_dead_letter, settings.topics.uploads_dlq.name, plain_producer(settings)
    )
    restorer_id = f"{transactional_id(settings)}-restore"
    restorer = UploadRestorer(
        settings,
        codec,
        replica,
        producer_with_id(
            settings,
            restorer_id,
            partial(end_leftovers, settings, restorer_id, settings.upload_partitions),
        ),
    )

    metrics = WorkerMetrics() if settings.worker_metrics_address else None

    async def refuse(record: UploadRecord, fault: Malformed, headers: Headers) -> None:
        await put_dead_letter(record, fault, headers)
        if metrics is not None:
            metrics.upload_refused(fault)
        await restorer.restore_when_possible(record)

    batch_prep = _build_batch_preparation(
        settings, codec, admin, replica, changed_scopes, splicer, metrics or NoObserver()
    )
    is_busy = batch_prep.preparer.load.is_busy
    fold_pace = GivingWay(is_busy, idle=0, busy=10)
    check_pace = GivingWay(is_busy, idle=4, busy=50)
    table = add_folding(app, settings, codec, replica, refuse, fail, fold_pace.rest_after)
    return Worker(
        settings=settings,
        admin=admin,
        replica=replica,
        feed=ReplicaFeed(settings, replica, fail),
        batch_prep=batch_prep,
        app=app,
        channel=BoundedChannel(app, maxsize=MAX_WAITING_BATCHES),
        changelog_repair=ChangelogRepair(
            app, settings, codec, replica, table, fail, check_pace.rest_s
        ),
        metrics=metrics,
    )


def _build_batch_preparation(
    settings: Settings,
    codec: Codec,
    admin: AdminClient,
    replica: ContextReplica,
    changed_scopes: ChangedScopes,
    splicer: BatchSplicer,
    observer: Observer,
) -> BatchPreparation:
    epoch = FetchEpoch()
    producer = _batch_producer(settings)
    committer = Committer(epoch, producer, observer)
    parked = ParkedTopic(
        settings.topics,
        codec,
        settings.policy,
        replica.context,
        changed_scopes,
        lambda partitions: high_watermarks(admin, partitions),
        lambda: reader(settings),
    )
    consumer = GroupConsumer(
        consumed_requests(
            settings,
            parked.take_over,
            lambda: reader(settings, **{"auto.offset.reset": "earliest"}),
            partial(hanging_transactions, settings, settings.prep_group),
            wrong_offsets=lambda committed: wrong_offsets(
                settings,
                codec,
                committed,
                lambda partitions: high_watermarks(admin, partitions),
            ),
            slot=slot_of(settings, settings.prep_group),
        ),
        group_member(settings, settings.prep_group),
        epoch,
        committer.commit,
        settings.batch_max,
    )
    uploads = settings.upload_partitions
    preparer = Preparer(
        settings,
        consumer,
        parked,
        replica,
        OutcomeBuilder(codec, settings.policy, replica.context),
        splicer,
        lambda: high_watermarks(admin, uploads),
        committer,
        observer,
    )
    return BatchPreparation(epoch, consumer, parked, preparer, producer, committer)


def _batch_producer(settings: Settings) -> TransactionalProducer:
    producer_id, topics = transactional_id(settings), settings.topics
    written = settings.partitions_of(*topics.outcomes, topics.parked)
    return producer_with_id(
        settings,
        producer_id,
        partial(end_leftovers, settings, producer_id, written, [settings.prep_group]),
        **SENT_BY_COMMIT,
    )


def forget(
    splicer: BatchSplicer, changed_scopes: ChangedScopes, scope_keys: Collection[str]
) -> None:
    """Note that the contexts of these scopes have changed; the fold calls it before it goes on."""
    splicer.forget(scope_keys)
    changed_scopes.add(scope_keys)


def build_splicer(
    settings: Settings, codec: Codec, replica: ContextReplica, engine: Engine
) -> BatchSplicer:
    """What splices batches with this engine."""
    max_bytes = settings.prepared_contexts_mb * 1024 * 1024
    parts = OutcomeParts(codec, settings.policy, replica.context, replica.rows_of, settings.topics)
    if engine.name == PlainEngine.name:
        return PlainSplicer(parts, max_bytes)
    from processors.outcomes.compiled_splicer import CompiledSplicer  # imports numba

    return CompiledSplicer(parts, max_bytes)


def watch(worker: Worker, shutdown: Shutdown, stalled_checks: int) -> None:
    """Start the threads that watch the worker's transactions and the progress of its parts."""
    settings = worker.settings
    status = StatusFile(settings.worker_dir)
    status.started(round(time.time() * 1000))
    worker.batch_prep.consumer.on_rebalance = lambda owned: status.rebalanced(
        owned, round(time.time() * 1000)
    )
    # a client of its own: batch preparation's requests must not wait for the watchdog's
    admin = admin_client(settings)
    uploads = settings.upload_partitions
    watched = [*uploads, *settings.partitions_of(settings.topics.requests)]
    upload_names = [topic.name for topic in settings.topics.uploads]
    folded = partial(fold_positions, cast(CJStreamApp, worker.app), upload_names)
    watchdog = Watchdog(
        [
            reader_probe("the context replica", worker.replica.positions),
            reader_probe("the fold", folded),
            batch_prep_probe(
                settings,
                lambda: {*status.owned} - worker.batch_prep.consumer.unsettled,
                partial(committed_offsets, settings, settings.prep_group),
            ),
            membership_probe(
                "batch preparation",
                group_of(
                    settings,
                    settings.prep_group,
                    settings.partitions_of(settings.topics.requests),
                ),
                lambda: status.owned,
                partial(is_unread, settings),
                membership_checks(settings),
            ),
            membership_probe(
                "the fold",
                group_of(settings, settings.fold_group, uploads),
                folded,
                partial(is_unread, settings),
                max(stalled_checks, membership_checks(settings)),
            ),
        ],
        partial(high_watermarks, admin, watched),
        partial(last_stable_offsets, admin, watched),
        uploads,
        worker.replica.positions,
        worker.replica.stopped,
        partial(open_transactions_or_none, settings),
        stalled_checks,
    )
    watchdog.on_trip = status.watchdog_tripped
    if worker.metrics is not None:
        _serve_metrics(worker, worker.metrics, watchdog, status, folded, shutdown)
    topics_admin = admin_client(settings)
    watches = {
        "watch-transactions": partial(
            watch_transactions, worker.batch_prep.producer, shutdown, status.watchdog_tripped
        ),
        "watch-parts": partial(watchdog.run, shutdown),
        "watch-topics": partial(
            watch_topics, partial(seen_topics, topics_admin, settings), shutdown
        ),
    }
    for name, run in watches.items():
        in_background(name, run, shutdown)


def _serve_metrics(
    worker: Worker,
    metrics: WorkerMetrics,
    watchdog: Watchdog,
    status: StatusFile,
    folded: Callable[[], Positions],
    shutdown: Shutdown,
) -> None:
    """Serve the worker's metrics and its health from now on, also while it starts. Raises Misconfigured."""
    settings, batch_prep = worker.settings, worker.batch_prep

    def readiness() -> dict[str, bool]:
        return {
            "broker": watchdog.is_answered,
            "replica": worker.has_caught_up.is_set(),
            "group": batch_prep.consumer.is_member,
            "running": not shutdown.requested,
        }

    state = WorkerState(
        owned=lambda: status.owned,
        committed=batch_prep.done_to,
        appended_at_ms=lambda: dict(batch_prep.consumer.appended_at_ms),
        replica=worker.replica.positions,
        replica_rows=worker.replica.estimated_rows,
        stopped_uploads=lambda: len(worker.replica.stopped()),
        fold=folded,
        parked=lambda: batch_prep.parked.parked_requests if status.owned else 0,
        oldest_parked_s=batch_prep.parked.oldest_age_s,
        patience_s=settings.patience_s,
        open_transaction_s=batch_prep.producer.open_s,
        rebalances=lambda: status.rebalances,
        blocked=lambda: len(watchdog.reported),
        watchdog_trips=lambda: status.watchdog_trips,
        readiness=readiness,
    )
    metrics.show(state)
    watchdog.on_offsets = partial(metrics.observe_offsets, state)
    served = Served(metrics.registry, lambda: {"running": shutdown.fault is None}, readiness)
    setting = "CJSTREAM_WORKER_METRICS_ADDRESS"
    MetricsServer(settings.worker_metrics_address, served, setting=setting).start()
