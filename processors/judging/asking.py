"""Runs the cycle, and in between gathers texts and asks judges, all side by side."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.judging.calls import CallToSend, EndedCall
from processors.judging.cycle import BatchToGather, Cycle
from processors.judging.judge import Answered, Failed, Judge
from processors.judging.run_opening import gather, texts_of
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock, Repeats
from processors.shutdown import Shutdown
from schemas.errors import Unreachable
from tables.content_store import ContentStore

log = logging.getLogger("cjstream.judging")
RETRY_S = 1.0
GATHERED_AT_ONCE = 4


class Asking:
    """The judge process's event loop. judges: by provider and model. keeps_responses: in the content store."""

    def __init__(
        self,
        cycle: Cycle,
        epochs: FetchEpoch,
        judges: Mapping[tuple[str, str], Judge],
        store: ContentStore,
        wait: Callable[[float], Awaitable[None]],
        call_timeout_s: float,
        drain_s: float,
        keeps_responses: bool,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cycle = cycle
        self._epochs = epochs
        self._judges = judges
        self._store = store
        self._wait = wait
        self._call_timeout_s = call_timeout_s
        self._drain_s = drain_s
        self._keeps_responses = keeps_responses
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._gathering = asyncio.Semaphore(GATHERED_AT_ONCE)
        self._failures = Repeats(tolerated=2)

    async def run(self, cycles: ThreadPoolExecutor, shutdown: Shutdown) -> None:
        """Run cycles until the shutdown, then until the calls in flight have ended, or for drain_s."""
        try:
            while not shutdown.requested:
                await self._run_cycle(cycles, shutdown)
            self._cycle.is_stopping = True
            deadline = self._clock.monotonic() + self._drain_s
            while self._cycle.calls_in_flight and self._clock.monotonic() < deadline:
                await self._run_cycle(cycles, shutdown)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for judge in {id(judge): judge for judge in self._judges.values()}.values():
                await judge.close()

    async def _run_cycle(self, cycles: ThreadPoolExecutor, shutdown: Shutdown) -> None:
        to_do = await asyncio.get_running_loop().run_in_executor(cycles, self._cycle.run)
        for batch in to_do.gather:
            self._start(self._gather(batch), shutdown)
        for call in to_do.send:
            self._start(self._ask(call), shutdown)

    def _start(self, work: Coroutine[None, None, None], shutdown: Shutdown) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def on_done(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if not done.cancelled() and (fault := done.exception()):
                shutdown.fail(fault)

        task.add_done_callback(on_done)

    async def _gather(self, wanted: BatchToGather) -> None:
        """Read the texts of a batch; waits while the store does not answer."""
        ids = texts_of(wanted.batch.event)
        async with self._gathering:
            while wanted.epoch == self._epochs.number:
                try:
                    gathered = await asyncio.to_thread(gather, self._store, ids)
                except Unreachable as fault:
                    level = self._failures.next_level()
                    fields = {"batch": str(wanted.batch.at), "reason": str(fault)}
                    log.log(level, "a batch waits for its texts", extra=fields)
                    await self._wait(RETRY_S)
                else:
                    self._failures.end()
                    self._cycle.gathered.append((wanted, gathered))
                    return

    async def _ask(self, call: CallToSend) -> None:
        if (
            call.epoch != self._epochs.number
        ):  # the last look: this process may own the run no longer
            self._cycle.ended.put(EndedCall(call, None, 0, None))
            return
        judge = self._judges[call.request.prompt.provider, call.request.prompt.model]
        started_at = self._clock.monotonic()
        outcome = await judge.ask(call.request, self._call_timeout_s)
        took_ms = round((self._clock.monotonic() - started_at) * 1000)
        response_id = await self._kept(outcome)
        self._cycle.ended.put(EndedCall(call, outcome, took_ms, response_id))

    async def _kept(self, outcome: Answered | Failed) -> str | None:
        """Store the response as it came; None if there is none, or if the store does not answer."""
        if not self._keeps_responses or not outcome.response:
            return None
        try:
            stored = await asyncio.to_thread(partial(self._store.put, outcome.response))
        except Unreachable as fault:
            log.warning("a response is not kept", extra={"reason": str(fault)})
            return None
        return stored.storage_id
