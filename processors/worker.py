"""Runs one worker: waits for the broker and the replica, runs, and stops.

Batch preparation waits only for the replica. Faust starts at the same time, so that a dead member of Faust's group
delays the fold's table but never batch preparation.
"""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from processors.allocator import keep_freed_memory
from processors.app import Worker, build_worker, load_scan_engine, watch
from processors.batch_prep.prepare_agent import prepare_batches
from processors.fold.catch_up import Display, no_display, wait_until_caught_up
from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.broker_features import check_group_protocol
from processors.kafka.offsets import high_watermarks
from processors.kafka.rights import require_rights
from processors.kafka.topic_admin import checked_topics, count_brokers
from processors.monitoring.watchdog import STALLED_CHECKS
from processors.registry.registry_codec import codec_unless_stopped
from processors.settings import Settings
from processors.shutdown import STOP_S, Shutdown, exit_after
from schemas.errors import CJStreamError, Unreachable

log = logging.getLogger("cjstream.worker")
BROKER_S = 60.0
FAUST_STOP_S = 3.0
GC_THRESHOLD = 200_000  # new objects until the garbage collector looks at them


async def run_worker(settings: Settings, shutdown: Shutdown, display: Display = no_display) -> None:
    """Run a worker until its shutdown is requested. Raises the fault that ended it.

    While no broker answers, Faust may leave tasks that never end: the caller must end the process.
    """
    codec = await codec_unless_stopped(settings, lambda: shutdown.requested)
    if codec is not None:
        # before the group is joined: what must be compiled takes seconds
        engine = await asyncio.to_thread(load_scan_engine, settings)
        keep_freed_memory()
        worker = build_worker(settings, shutdown.fail, codec, engine)
        _collect_garbage_seldom()
        await run_built_worker(worker, shutdown, display=display)


def _collect_garbage_seldom() -> None:
    """Leave what is loaded out of later garbage collections: Faust's and numba's objects stay until the process ends.

    A full collection of 200,000 of them would take 100 ms, in which no request is answered. What a batch allocates is
    freed by reference counts: looking at it again and again would take a sixth of the fetch thread's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


async def run_built_worker(
    worker: Worker,
    shutdown: Shutdown,
    stalled_checks: int = STALLED_CHECKS,
    display: Display = no_display,
) -> None:
    """Run a built worker; it ends if its watchdog sees no progress of a part in `stalled_checks` checks."""
    settings = worker.settings
    bounded_stop = asyncio.create_task(_bound_stop(shutdown))
    watch(worker, shutdown, stalled_checks)
    try:
        await _start(worker, shutdown, display)
        if not shutdown.requested:
            async with (
                prepare_batches(worker.batch_prep, worker.app, worker.channel, shutdown),
                _run_faust(worker, shutdown),
            ):
                log.info("worker runs", extra={"policy": str(settings.policy)})
                await shutdown.wait()
                log.info("worker stops", extra={"fault": str(shutdown.fault or "")})
    finally:
        await asyncio.to_thread(_close, worker)
        bounded_stop.cancel()
    if shutdown.fault is not None:
        raise shutdown.fault


async def _bound_stop(shutdown: Shutdown) -> None:
    await shutdown.wait()
    exit_after(STOP_S, shutdown, log)


async def _start(worker: Worker, shutdown: Shutdown, display: Display) -> None:
    """Wait for the broker and its topics, then until the replica has folded every upload."""
    settings = worker.settings
    await _wait_for_broker(worker, shutdown)
    await asyncio.to_thread(
        retry_while_unreachable,
        partial(require_rights, "worker", worker.admin, settings),
        BROKER_S,
        "a description of the rights",
    )
    topic_ids = await asyncio.to_thread(_topic_ids, worker, shutdown)
    if shutdown.requested:
        return
    await asyncio.to_thread(
        retry_while_unreachable, partial(check_group_protocol, settings), BROKER_S, "every broker"
    )
    uploads = settings.upload_partitions
    ids = {topic.name: topic_ids[topic.name] for topic in settings.topics.uploads}
    positions = worker.replica.open(ids)
    worker.feed.start(positions)
    ends = await asyncio.to_thread(
        retry_while_unreachable,
        partial(high_watermarks, worker.admin, uploads),
        BROKER_S,
        "a leader of every upload partition",
    )
    await asyncio.to_thread(
        wait_until_caught_up, worker.replica, ends, lambda: shutdown.requested, display
    )
    worker.has_caught_up.set()


def _topic_ids(worker: Worker, shutdown: Shutdown) -> dict[str, str]:
    """The ids of the topics, retried while a broker does not answer; empty if the shutdown is requested."""
    return retry_while_unreachable(
        lambda: {} if shutdown.requested else checked_topics(worker.admin, worker.settings),
        BROKER_S,
        "a description of the topics",
    )


async def _wait_for_broker(worker: Worker, shutdown: Shutdown) -> None:
    until = time.monotonic() + BROKER_S
    log.info("waiting for a broker", extra={"at": worker.settings.bootstrap_servers})
    while not shutdown.requested:
        try:
            await asyncio.to_thread(count_brokers, worker.admin, worker.settings, 2.0)
            return
        except Unreachable:
            if time.monotonic() > until:
                raise


@asynccontextmanager
async def _run_faust(worker: Worker, shutdown: Shutdown) -> AsyncIterator[None]:
    """Run the Faust app during the block; nothing waits until it has started."""
    start_task = asyncio.create_task(worker.app.start())
    repair_task = asyncio.create_task(worker.changelog_repair.run())
    crash_task = asyncio.create_task(_raise_crash(worker))
    for task in (start_task, repair_task, crash_task):
        task.add_done_callback(partial(_on_task_done, shutdown=shutdown))
    try:
        yield
    finally:
        worker.changelog_repair.stop()
        await asyncio.wait({repair_task}, timeout=FAUST_STOP_S)
        start_task.cancel()
        crash_task.cancel()
        with suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(worker.app.stop(), FAUST_STOP_S)


async def _raise_crash(worker: Worker) -> None:
    """Raise CJStreamError if the Faust app crashes; agents report their own faults."""
    await worker.app.wait_until_stopped()
    if worker.app.crashed:
        raise CJStreamError(f"Faust crashed: {worker.app.crash_reason!r}")


def _on_task_done(task: "asyncio.Task[Any]", shutdown: Shutdown) -> None:
    if not task.cancelled() and (fault := task.exception()):
        shutdown.fail(fault)


def _close(worker: Worker) -> None:
    worker.feed.stop()
    worker.batch_prep.producer.close()
    worker.replica.close()
