"""Runs one worker from its start to its end: what it waits for, what it does, how it stops.

Batch preparation waits for the replica alone. Faust starts beside it, and a dead member of Faust's group
holds back the fold's table, never the join.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from faust.types import StreamT

from processors.app import Worker, build_worker
from processors.kafka.bounded_wait import wait_until
from processors.kafka.topic_admin import checked_topics, high_watermarks, reach, upload_partitions
from processors.log.reader import once_reachable
from processors.monitoring.watchdog import STALLED_LOOKS
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from processors.watching import watch
from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.errors import CJStreamError, Unreachable

T = TypeVar("T")
log = logging.getLogger("cjstream.worker")
FETCH_WAIT_S = 0.2
BROKER_S = 60.0
FAUST_STOP_S = 3.0
STOP_S = 8.5


class WorkerEnd:
    """Why a worker is to end: the first fault, or the wish to stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self.fault: BaseException | None = None

    def fatal(self, fault: BaseException) -> None:
        """End with a fault; from any thread."""
        if self.fault is None:
            self.fault = fault
        self.stop()

    def stop(self) -> None:
        """End cleanly; from any thread."""
        with suppress(RuntimeError):  # the loop is closed: it has ended already
            self._loop.call_soon_threadsafe(self._event.set)

    @property
    def is_due(self) -> bool:
        """Whether the worker is to end."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait until it is."""
        await self._event.wait()


async def run_worker(settings: Settings, end: WorkerEnd) -> None:
    """Run a worker until its end is due. Raises the fault that ended it.

    Faust may leave tasks behind that never end while no broker answers: the caller ends the process.
    """
    codec = await codec_unless_ended(settings, end)
    if codec is not None:
        await run_built(build_worker(settings, end.fatal, codec), end)


async def codec_unless_ended(settings: Settings, end: WorkerEnd) -> Codec | None:
    """The codec, once the schema registry answers where there is one; None where the end comes first."""
    try:
        return await asyncio.to_thread(codec_for, settings, BROKER_S, lambda: not end.is_due)
    except Unreachable:
        if end.is_due:
            return None
        raise


async def run_built(worker: Worker, end: WorkerEnd, stalled_looks: int = STALLED_LOOKS) -> None:
    """Run a worker that is built; it ends after so many looks of its watchdog at a part that stands still."""
    settings = worker.settings
    last_resort = asyncio.create_task(_last_resort(end))
    watch(worker, end, stalled_looks)
    try:
        await _started(worker, end)
        if not end.is_due:
            async with _batch_preparation(worker, end), _faust(worker, end):
                log.info("worker runs", extra={"policy": str(settings.policy)})
                await end.wait()
                log.info("worker stops", extra={"fault": str(end.fault or "")})
    finally:
        await asyncio.to_thread(_close, worker)
        last_resort.cancel()
    if end.fault is not None:
        raise end.fault


async def _last_resort(end: WorkerEnd) -> None:
    """End the process where a clean end takes too long: a thread inside a C call cannot be ended.

    What that leaves open, the next start's fencing ends.
    """
    await end.wait()
    timer = threading.Timer(STOP_S, _give_up, [end])
    timer.daemon = True
    timer.start()


def _give_up(end: WorkerEnd) -> None:
    log.error(
        "worker did not stop in time: the process ends", extra={"fault": str(end.fault or "")}
    )
    os._exit(getattr(end.fault, "exit_code", 1))


async def _started(worker: Worker, end: WorkerEnd) -> None:
    """Wait for the broker and its topics, then for the replica to reach the uploads' end."""
    settings = worker.settings
    await _wait_for_broker(worker, end)
    topic_ids = await asyncio.to_thread(_topic_ids, worker, end)
    if end.is_due:
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
    while not end.is_due:
        if not await asyncio.to_thread(partial(worker.replica.wait_past, ends, 1.0)):
            break
    log.info("replica caught up", extra={"took_ms": round((time.monotonic() - begun) * 1000)})


def _topic_ids(worker: Worker, end: WorkerEnd) -> dict[str, str]:
    """The topics' ids once brokers agree on them: of several, one may just have died. None are told at the end."""
    return once_reachable(
        lambda: {} if end.is_due else checked_topics(worker.admin, worker.settings),
        BROKER_S,
        "the topics to be described",
    )


def _watermarks(worker: Worker, uploads: list[Partition]) -> Positions:
    try:
        return high_watermarks(worker.admin, uploads)
    except Unreachable:
        return {}  # not yet


async def _wait_for_broker(worker: Worker, end: WorkerEnd) -> None:
    until = time.monotonic() + BROKER_S
    log.info("waiting for a broker", extra={"at": worker.settings.bootstrap_servers})
    while not end.is_due:
        try:
            await asyncio.to_thread(reach, worker.admin, worker.settings, 2.0)
            return
        except Unreachable:
            if time.monotonic() > until:
                raise


@asynccontextmanager
async def _batch_preparation(worker: Worker, end: WorkerEnd) -> AsyncIterator[None]:
    """Fetch into the lane on one thread, commit from it on another, while the block lasts."""
    # a thread per librdkafka handle, so that callbacks, metadata and commits keep one order
    with ThreadPoolExecutor(1, "fetch") as fetching, ThreadPoolExecutor(1, "commit") as committing:

        async def commit_batches(stream: StreamT[Any]) -> None:
            async for batch in stream:
                try:
                    await _in(committing, partial(worker.committer.commit, batch))
                except Exception as fault:  # noqa: BLE001 (Faust would acknowledge it and go on)
                    end.fatal(fault)
                    await asyncio.Event().wait()  # the next batch is never reached

        worker.app.agent(worker.lane, name="prepare-batches")(commit_batches)
        feeding = asyncio.create_task(_feed(worker, end, fetching, committing))
        try:
            yield
        finally:
            feeding.cancel()
            worker.outbox.stop()
            await _in(committing, worker.ownership.end_epoch)
            await _in(fetching, worker.fetcher.close)
            await _in(fetching, worker.parking.close)


async def _feed(
    worker: Worker, end: WorkerEnd, fetching: ThreadPoolExecutor, committing: ThreadPoolExecutor
) -> None:
    try:
        # ends what a killed predecessor left open: committed offsets are not stable before that
        await _in(committing, worker.outbox.renew)
        await _in(fetching, worker.fetcher.join)
        while not end.is_due:
            batch = await _in(fetching, lambda: worker.preparer.next_batch(FETCH_WAIT_S))
            if batch is not None:
                await worker.lane.put(batch)
    except Exception as fault:  # noqa: BLE001 (whatever it is, nothing is fetched any more)
        end.fatal(fault)


@asynccontextmanager
async def _faust(worker: Worker, end: WorkerEnd) -> AsyncIterator[None]:
    """The Faust app, started beside: whatever it waits for, nothing waits for it."""
    starting = asyncio.create_task(worker.app.start())
    reasserting = asyncio.create_task(worker.reassertion.run())
    crashing = asyncio.create_task(_crashed(worker))
    for task in (starting, reasserting, crashing):
        task.add_done_callback(partial(_ended, end=end))
    try:
        yield
    finally:
        worker.reassertion.stop()
        await asyncio.wait({reasserting}, timeout=FAUST_STOP_S)
        starting.cancel()
        crashing.cancel()
        with suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(worker.app.stop(), FAUST_STOP_S)


async def _crashed(worker: Worker) -> None:
    """Raise what crashed the Faust app; agents tell of their own faults."""
    await worker.app.wait_until_stopped()
    if worker.app.crashed:
        raise CJStreamError(f"Faust crashed: {worker.app.crash_reason!r}")


def _ended(task: "asyncio.Task[Any]", end: WorkerEnd) -> None:
    if not task.cancelled() and (fault := task.exception()):
        end.fatal(fault)


def _close(worker: Worker) -> None:
    worker.feed.stop()
    worker.outbox.close()
    worker.replica.close()


async def _in(executor: ThreadPoolExecutor, step: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, step)
