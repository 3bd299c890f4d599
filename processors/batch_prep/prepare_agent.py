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
from processors.exactly_once.committer import Committer
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.group_consumer import GroupConsumer
from processors.fold.bounded_channel import BoundedChannel
from processors.kafka.transactional_producer import TransactionalProducer
from processors.parking.parked_topic import ParkedTopic
from processors.shutdown import Shutdown
from schemas.coordinates import Positions

T = TypeVar("T")
FETCH_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class BatchPreparation:
    """The objects that batch preparation consists of in one worker, built but not started."""

    epoch: FetchEpoch
    consumer: GroupConsumer
    parked: ParkedTopic
    preparer: Preparer
    producer: TransactionalProducer
    committer: Committer

    def done_to(self) -> Positions:
        """The position in each request partition up to which nothing is left to do: markers are passed, too."""
        passed = self.consumer.client_positions()  # first: what is fetched meanwhile is not done
        return {
            tp: passed.get(tp, offset) if self.consumer.is_fetched_to(tp, offset) else offset
            for tp, offset in self.epoch.committed.items()
        }


@asynccontextmanager
async def prepare_batches(
    batch_prep: BatchPreparation, app: faust.App, channel: BoundedChannel, shutdown: Shutdown
) -> AsyncIterator[None]:
    """While the block runs, put prepared batches into the channel and commit them from it."""
    # one thread per librdkafka handle keeps callbacks, metadata and commits in order
    with ThreadPoolExecutor(1, "fetch") as fetching, ThreadPoolExecutor(1, "commit") as committing:

        async def commit_batches(stream: StreamT[Any]) -> None:
            async for batch in stream:
                try:
                    await _run_in(committing, partial(batch_prep.committer.commit, batch))
                except Exception as fault:  # noqa: BLE001 (Faust would acknowledge and continue)
                    shutdown.fail(fault)
                    await asyncio.Event().wait()  # the next batch is never reached

        async def fill_channel() -> None:
            try:
                # aborts a killed predecessor's open transaction: until then its offsets are not stable
                await _run_in(committing, batch_prep.producer.take_over)
                await _run_in(fetching, batch_prep.consumer.join)
                while not shutdown.requested:
                    batch = await _run_in(
                        fetching, lambda: batch_prep.preparer.next_batch(FETCH_WAIT_S)
                    )
                    if batch is not None:
                        await channel.put(batch)
            except Exception as fault:  # noqa: BLE001 (after any fault, nothing is fetched)
                shutdown.fail(fault)

        app.agent(channel, name="prepare-batches")(commit_batches)
        fill_task = asyncio.create_task(fill_channel())
        try:
            yield
        finally:
            fill_task.cancel()
            batch_prep.producer.stop()
            await _run_in(committing, batch_prep.epoch.end)
            await _run_in(fetching, batch_prep.consumer.close)
            await _run_in(fetching, batch_prep.parked.close)


async def _run_in(executor: ThreadPoolExecutor, step: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, step)
