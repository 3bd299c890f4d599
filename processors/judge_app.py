"""The judge process: wires it from settings, and runs it. Nothing connects before it runs."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from processors.exactly_once.committer import Committer
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import GroupConsumer
from processors.exactly_once.slot import slot_of
from processors.judging.anchors_lookup import AnchorsFeed
from processors.judging.asking import Asking
from processors.judging.batch_consumer import consumed_batches
from processors.judging.cycle.calls_in_flight import CallsInFlight
from processors.judging.cycle.cycle import Cycle, CycleParts
from processors.judging.cycle.draft import JudgingRecords
from processors.judging.cycle.draft_commit import DraftCommit
from processors.judging.cycle.endpoint_slots import EndpointSlots
from processors.judging.cycle.fetched_batches import FetchedBatches
from processors.judging.cycle.run_steps import RunSteps
from processors.judging.gathering import Gathering
from processors.judging.judge_loop import JudgeLoop
from processors.judging.judges.judge import CallId, Judge
from processors.judging.judges.known_judges import (
    askable,
    default_model,
    judge_name,
    judges_of,
    judging_limits,
    known_models,
)
from processors.judging.observer import NoJudgingObserver
from processors.judging.open_runs import OpenRuns
from processors.judging.run_items import FindAnchors
from processors.judging.run_opening import JudgingPolicy
from processors.judging.run_texts import RunTexts
from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.broker_clock import BrokerClock
from processors.kafka.clients import (
    admin_client,
    group_member,
    judge_transactional_id,
    reader,
)
from processors.kafka.offsets import high_watermarks
from processors.kafka.rights import require_rights
from processors.kafka.topic_admin import checked_topics, seen_topics
from processors.kafka.transactional_producer import TransactionalProducer, producer_with_id
from processors.kafka.transactions import hanging_transactions
from processors.monitoring.judge_metrics import JudgeMetrics, JudgeState
from processors.monitoring.judge_watches import judge_watches
from processors.monitoring.metrics_server import MetricsServer, Served
from processors.monitoring.watchdog import (
    STALLED_CHECKS,
    in_background,
    watch_topics,
    watch_transactions,
)
from processors.registry.registry_codec import codec_unless_stopped
from processors.settings import Settings
from processors.shutdown import STOP_S, Shutdown, call_after, exit_after
from schemas.codec import Codec
from schemas.models import Catalogue
from tables.content_store import ContentStore

log = logging.getLogger("cjstream.judging")
BROKER_S = 60.0


@dataclass(frozen=True, slots=True)
class JudgeProcess:
    """The objects that one judge process consists of, built but not started."""

    settings: Settings
    consumer: GroupConsumer
    producer: TransactionalProducer
    epochs: FetchEpoch
    loop: JudgeLoop
    cycle: Cycle
    slots: EndpointSlots
    metrics: JudgeMetrics | None  # None: nothing serves them


def build_judge(
    settings: Settings, codec: Codec, catalogue: Catalogue, find_anchors: FindAnchors
) -> JudgeProcess:
    """Wire one judge process. Raises Misconfigured."""
    judges, policy = _judges_of(settings, catalogue)
    metrics = JudgeMetrics(judges.keys()) if settings.judge_metrics_address else None
    store = ContentStore.open(settings.content, settings.content_max_bytes)
    epochs, broker_clock, alive = FetchEpoch(), BrokerClock(), set[CallId]()
    producer = producer_with_id(settings, judge_transactional_id(settings))
    committer = Committer(epochs, producer)
    admin = admin_client(settings)
    new_reader = partial(reader, settings, **{"auto.offset.reset": "earliest"})
    runs = OpenRuns(
        codec, broker_clock, partial(high_watermarks, admin), new_reader, alive.__contains__
    )
    consumer = GroupConsumer(
        consumed_batches(
            settings,
            runs.take_over,
            new_reader,
            partial(hanging_transactions, settings, settings.judge_group),
            slot=slot_of(settings, settings.judge_group),
        ),
        group_member(settings, settings.judge_group),
        epochs,
        committer.commit,
        settings.judge_runs_max,
    )
    texts, slots = RunTexts(store), EndpointSlots(settings.judge_concurrency_max)
    batches = FetchedBatches(codec, texts, policy, broker_clock)
    encoded, observer = JudgingRecords(settings.topics, codec), metrics or NoJudgingObserver()
    parts = CycleParts(
        consumer,
        broker_clock,
        runs,
        batches,
        CallsInFlight(runs, slots, alive),
        RunSteps(runs, texts, slots, judges.keys(), broker_clock),
        DraftCommit(encoded, epochs, committer, runs, batches, observer),
    )
    cycle = Cycle(parts, settings.judge_runs_max, settings.judge_drain_s, observer)
    consumer.before_revoke = cycle.drain
    responses = store if settings.judge_keep_responses else None
    loop = JudgeLoop(
        cycle,
        Gathering(epochs, store, find_anchors, asyncio.sleep),
        Asking(epochs, judges, responses, settings.call_timeout_s),
        settings.judge_drain_s,
    )
    return JudgeProcess(settings, consumer, producer, epochs, loop, cycle, slots, metrics)


async def run_judge(
    settings: Settings,
    shutdown: Shutdown,
    catalogue: Catalogue,
    stalled_checks: int = STALLED_CHECKS,
) -> None:
    """Run a judge process until its shutdown is requested; it ends if no cycle begins in `stalled_checks` checks.

    Raises the fault that ended it.
    """
    codec = await codec_unless_stopped(settings, lambda: shutdown.requested)
    if codec is None:
        return
    admin = admin_client(settings)
    anchors = AnchorsFeed(settings, codec, admin, shutdown.fail)
    process = build_judge(settings, codec, catalogue, anchors.lookup.find)
    if process.metrics is not None:
        _serve_metrics(process, process.metrics, shutdown)
    topic_ids = dict[str, str]()
    for request, what in (
        (partial(require_rights, "judge", admin, settings), "a description of the rights"),
        (
            lambda: topic_ids.update(checked_topics(admin, settings)),
            "a description of the topics",
        ),
    ):
        await asyncio.to_thread(
            retry_while_unreachable, partial(_unless_stopped, shutdown, request), BROKER_S, what
        )
    if shutdown.requested:
        return
    anchors.start(topic_ids)
    watches: dict[str, Callable[[], None]] = {
        "watch-transactions": partial(watch_transactions, process.producer, shutdown),
        "watch-topics": partial(watch_topics, partial(seen_topics, admin, settings), shutdown),
    }
    for name, watch in watches.items():
        in_background(name, watch, shutdown)
    bounded_stop = asyncio.create_task(_bound_stop(process, shutdown))
    # one thread: callbacks, metadata and commits stay in order
    with ThreadPoolExecutor(1, "cycle") as cycles:
        loop = asyncio.get_running_loop()
        try:
            # aborts a killed predecessor's open transaction: until then its offsets are not stable
            await loop.run_in_executor(cycles, process.producer.take_over)
            running = judge_watches(
                settings, process.consumer, lambda: process.cycle.begun, shutdown, stalled_checks
            )
            await loop.run_in_executor(cycles, process.consumer.join)
            for name, watch in running.items():
                in_background(name, watch, shutdown)
            log.info("judge runs", extra={"judge": judge_name(settings)})
            await process.loop.run(cycles, shutdown)
            log.info("judge stops", extra={"fault": str(shutdown.fault or "")})
        finally:
            process.producer.stop()
            await loop.run_in_executor(cycles, process.epochs.end)
            await loop.run_in_executor(cycles, process.consumer.close)
            await loop.run_in_executor(cycles, anchors.stop)
            await loop.run_in_executor(cycles, process.producer.close)
            bounded_stop.cancel()
    if shutdown.fault is not None:
        raise shutdown.fault


def _serve_metrics(process: JudgeProcess, metrics: JudgeMetrics, shutdown: Shutdown) -> None:
    """Serve the judge's metrics and its health from now on, also while it starts. Raises Misconfigured."""
    cycle, slots = process.cycle, process.slots
    metrics.show(JudgeState(lambda: cycle.open_runs, lambda: slots.endpoints))
    served = Served(
        metrics.registry,
        lambda: {"running": shutdown.fault is None},
        lambda: {"group": process.consumer.is_member, "running": not shutdown.requested},
    )
    setting = "CJSTREAM_JUDGE_METRICS_ADDRESS"
    MetricsServer(process.settings.judge_metrics_address, served, setting=setting).start()


async def _bound_stop(process: JudgeProcess, shutdown: Shutdown) -> None:
    """After the drain, stop waiting for brokers; later, end the process."""
    await shutdown.wait()
    drain_s = process.settings.judge_drain_s
    call_after(drain_s, process.producer.stop)
    exit_after(drain_s + STOP_S, shutdown, log)


def _unless_stopped(shutdown: Shutdown, request: Callable[[], object]) -> None:
    if not shutdown.requested:
        request()


def _judges_of(
    settings: Settings, catalogue: Catalogue
) -> tuple[dict[tuple[str, str], Judge], JudgingPolicy]:
    """The judges by provider and model, and what is allowed. Raises Misconfigured."""
    known = known_models(settings, catalogue)
    default = default_model(settings, known)
    judges = judges_of(settings, catalogue)
    models = askable(known, judges)
    policy = JudgingPolicy(
        models=models,
        default=default,
        limits=judging_limits(settings),
        items_max=settings.judge_items_max,
        guests_allowed=settings.judge_guests,
    )
    return {(one.provider, one.model): judges[one.provider] for one in models.all}, policy
