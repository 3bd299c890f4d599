"""Runs one worker from its start to its end: what it waits for, what it does, how it stops.

Batch preparation waits for the replica alone. Faust starts beside it, and a dead member of Faust's group
holds back the fold's table, never the join.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from processors.app import Worker, build_worker, watch
from processors.batch_prep.prepare_agent import prepare_batches
from processors.kafka.bounded_wait import retry_while_unreachable, wait_until
from processors.kafka.offsets import high_watermarks
from processors.kafka.topic_admin import checked_topics, count_brokers
from processors.monitoring.watchdog import STALLED_CHECKS
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, upload_partitions
from processors.shutdown import Shutdown
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.errors import CJStreamError, Unreachable

log = logging.getLogger("cjstream.worker")
BROKER_S = 60.0
FAUST_STOP_S = 3.0
STOP_S = 8.5


async def run_worker(settings: Settings, shutdown: Shutdown) -> None:
    """Run a worker until its end is due. Raises the fault that ended it.

    Faust may leave tasks behind that never end while no broker answers: the caller ends the process.
    """
    codec = await codec_unless_stopped(settings, shutdown)
    if codec is not None:
        await run_built(build_worker(settings, shutdown.fail, codec), shutdown)


async def codec_unless_stopped(settings: Settings, shutdown: Shutdown) -> Codec | None:
    """The codec, once the schema registry answers where there is one; None where the end comes first."""
    try:
        return await asyncio.to_thread(
            codec_for, settings, BROKER_S, lambda: not shutdown.requested
        )
    except Unreachable:
        if shutdown.requested:
            return None
        raise


async def run_built(
    worker: Worker, shutdown: Shutdown, stalled_checks: int = STALLED_CHECKS
) -> None:
    """Run a worker that is built; it ends after so many looks of its watchdog at a part that stands still."""
    settings = worker.settings
    last_resort = asyncio.create_task(_last_resort(shutdown))
    watch(worker, shutdown, stalled_checks)
    try:
        await _started(worker, shutdown)
        if not shutdown.requested:
            async with (
                prepare_batches(worker.batch_prep, worker.app, worker.channel, shutdown),
                _faust(worker, shutdown),
            ):
                log.info("worker runs", extra={"policy": str(settings.policy)})
                await shutdown.wait()
                log.info("worker stops", extra={"fault": str(shutdown.fault or "")})
    finally:
        await asyncio.to_thread(_close, worker)
        last_resort.cancel()
    if shutdown.fault is not None:
        raise shutdown.fault


async def _last_resort(shutdown: Shutdown) -> None:
    """End the process where a clean end takes too long: a thread inside a C call cannot be ended.

    What that leaves open, the next start's fencing ends.
    """
    await shutdown.wait()
    timer = threading.Timer(STOP_S, _give_up, [shutdown])
    timer.daemon = True
    timer.start()


def _give_up(shutdown: Shutdown) -> None:
    log.error(
        "worker did not stop in time: the process ends", extra={"fault": str(shutdown.fault or "")}
    )
    os._exit(getattr(shutdown.fault, "exit_code", 1))


async def _started(worker: Worker, shutdown: Shutdown) -> None:
    """Wait for the broker and its topics, then for the replica to reach the uploads' end."""
    settings = worker.settings
    await _wait_for_broker(worker, shutdown)
    topic_ids = await asyncio.to_thread(_topic_ids, worker, shutdown)
    if shutdown.requested:
        return
    uploads = upload_partitions(settings)
    ids = {topic.name: topic_ids[topic.name] for topic in settings.topics.uploads}
    positions = worker.replica.open(ids)
    worker.feed.start(uploads, positions)
    ends = await asyncio.to_thread(
        wait_until,
        partial(_watermarks, worker, uploads),
        seconds=BROKER_S,
        what="a leader of every upload partition",
    )
    begun = time.monotonic()
    told = {"from": sum(positions.values()), "to": sum(ends.values())}
    log.info("waiting for the replica to fold the uploads", extra=told)
    while not shutdown.requested:
        if not await asyncio.to_thread(partial(worker.replica.wait_past, ends, 1.0)):
            break
    log.info("replica caught up", extra={"took_ms": round((time.monotonic() - begun) * 1000)})


def _topic_ids(worker: Worker, shutdown: Shutdown) -> dict[str, str]:
    """The topics' ids once brokers agree on them: of several, one may just have died. None are told at the end."""
    return retry_while_unreachable(
        lambda: {} if shutdown.requested else checked_topics(worker.admin, worker.settings),
        BROKER_S,
        "the topics to be described",
    )


def _watermarks(worker: Worker, uploads: list[Partition]) -> Positions:
    try:
        return high_watermarks(worker.admin, uploads)
    except Unreachable:
        return {}  # not yet


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
async def _faust(worker: Worker, shutdown: Shutdown) -> AsyncIterator[None]:
    """The Faust app, started beside: whatever it waits for, nothing waits for it."""
    starting = asyncio.create_task(worker.app.start())
    repairing = asyncio.create_task(worker.changelog_repair.run())
    crashing = asyncio.create_task(_crashed(worker))
    for task in (starting, repairing, crashing):
        task.add_done_callback(partial(_ended, shutdown=shutdown))
    try:
        yield
    finally:
        worker.changelog_repair.stop()
        await asyncio.wait({repairing}, timeout=FAUST_STOP_S)
        starting.cancel()
        crashing.cancel()
        with suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(worker.app.stop(), FAUST_STOP_S)


async def _crashed(worker: Worker) -> None:
    """Raise what crashed the Faust app; agents tell of their own faults."""
    await worker.app.wait_until_stopped()
    if worker.app.crashed:
        raise CJStreamError(f"Faust crashed: {worker.app.crash_reason!r}")


def _ended(task: "asyncio.Task[Any]", shutdown: Shutdown) -> None:
    if not task.cancelled() and (fault := task.exception()):
        shutdown.fail(fault)


def _close(worker: Worker) -> None:
    worker.feed.stop()
    worker.batch_prep.producer.close()
    worker.replica.close()
