"""Finds the anchors and reads the texts of fetched batches, a few batches at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.judging.cycle.fetched_batches import BatchToGather
from processors.judging.run_items import FindAnchors, Gathered, gather
from processors.kafka.bounded_wait import Repeats
from schemas.errors import ReplicaBehind, Unreachable
from tables.content_store import ContentStore

log = logging.getLogger("cjstream.judging")
RETRY_S = 1.0
AT_ONCE = 4


class Gathering:
    """Only for batches of the current epoch."""

    def __init__(
        self,
        epochs: FetchEpoch,
        store: ContentStore,
        find_anchors: FindAnchors,
        wait: Callable[[float], Awaitable[None]],
    ) -> None:
        self._epochs = epochs
        self._store = store
        self._find_anchors = find_anchors
        self._wait = wait
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._failures = Repeats(tolerated=2)

    async def gather(self, wanted: BatchToGather) -> Gathered | None:
        """Waits while the store or Kafka does not answer; None if the epoch has ended: the batch is fetched again."""
        async with self._at_once:
            while wanted.epoch == self._epochs.number:
                try:
                    gathered = await asyncio.to_thread(
                        gather, wanted.batch.event, self._store, self._find_anchors
                    )
                except (Unreachable, ReplicaBehind) as fault:
                    level = self._failures.next_level()
                    fields = {"batch": str(wanted.batch.at), "reason": str(fault)}
                    log.log(level, "a batch waits for its texts or anchors", extra=fields)
                    await self._wait(RETRY_S)
                else:
                    self._failures.end()
                    return gathered
        return None
