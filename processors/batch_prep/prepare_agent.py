"""The Faust agent of batch preparation: one thread fetches and prepares batches, another commits them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import faust
from faust.types import StreamT

from processors.batch_prep.preparer import Preparer
from processors.exactly_once.assignment_epoch import AssignmentEpoch
from processors.exactly_once.batch_producer import BatchProducer
from processors.exactly_once.committer import Committer
from processors.exactly_once.group_consumer import GroupConsumer
from processors.fold.bounded_channel import BoundedChannel
from processors.parking.parked_topic import ParkedTopic
from processors.shutdown import Shutdown

T = TypeVar("T")
FETCH_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class BatchPreparation:
    """The parts of batch preparation in one worker, built and not yet started."""

    epoch: AssignmentEpoch
    consumer: GroupConsumer
    parked: ParkedTopic
    preparer: Preparer
    producer: BatchProducer
    committer: Committer


@asynccontextmanager
async def prepare_batches(
    parts: BatchPreparation, app: faust.App, channel: BoundedChannel, shutdown: Shutdown
) -> AsyncIterator[None]:
    """Prepare batches into the channel and commit them from it, while the block runs."""
    # one thread per librdkafka handle, so that callbacks, metadata and commits keep their order
    with ThreadPoolExecutor(1, "fetch") as fetching, ThreadPoolExecutor(1, "commit") as committing:

        async def commit_batches(stream: StreamT[Any]) -> None:
            async for batch in stream:
                try:
                    await _in(committing, partial(parts.committer.commit, batch))
                except Exception as fault:  # noqa: BLE001 (Faust would acknowledge it and go on)
                    shutdown.fail(fault)
                    await asyncio.Event().wait()  # the next batch is never reached

        async def fill_channel() -> None:
            try:
                # aborts what a killed predecessor left open: until then its offsets are not stable
                await _in(committing, parts.producer.recreate)
                await _in(fetching, parts.consumer.join)
                while not shutdown.requested:
                    batch = await _in(fetching, lambda: parts.preparer.next_batch(FETCH_WAIT_S))
                    if batch is not None:
                        await channel.put(batch)
            except Exception as fault:  # noqa: BLE001 (nothing is fetched any more, for any reason)
                shutdown.fail(fault)

        app.agent(channel, name="prepare-batches")(commit_batches)
        filling = asyncio.create_task(fill_channel())
        try:
            yield
        finally:
            filling.cancel()
            parts.producer.stop()
            await _in(committing, parts.epoch.end)
            await _in(fetching, parts.consumer.close)
            await _in(fetching, parts.parked.close)


async def _in(executor: ThreadPoolExecutor, step: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, step)
