"""The agent of batch preparation: one thread fetches and prepares, another commits."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from faust.types import StreamT

from processors.app import Worker
from processors.shutdown import WorkerEnd

T = TypeVar("T")
FETCH_WAIT_S = 0.2


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


async def _in(executor: ThreadPoolExecutor, step: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, step)
