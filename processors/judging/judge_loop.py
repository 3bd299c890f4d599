"""The judge process's event loop: runs the cycle, and in between gathers texts and asks judges, all side by side."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor

from processors.judging.asking import Asking
from processors.judging.calls import CallToSend
from processors.judging.cycle.cycle import Cycle
from processors.judging.cycle.fetched_batches import BatchToGather
from processors.judging.gathering import Gathering
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from processors.shutdown import Shutdown


class JudgeLoop:
    """Whatever a call or a batch's texts fail with ends the process."""

    def __init__(
        self,
        cycle: Cycle,
        gathering: Gathering,
        asking: Asking,
        drain_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cycle = cycle
        self._gathering = gathering
        self._asking = asking
        self._drain_s = drain_s
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, cycles: ThreadPoolExecutor, shutdown: Shutdown) -> None:
        """Run cycles until the shutdown, then until the calls in flight have ended, or for drain_s."""
        try:
            while not shutdown.requested:
                await self._run_cycle(cycles, shutdown)
            self._cycle.stop_asking()
            deadline = self._clock.monotonic() + self._drain_s
            while self._cycle.calls_in_flight and self._clock.monotonic() < deadline:
                await self._run_cycle(cycles, shutdown)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._asking.close()

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

    async def _gather(self, batch: BatchToGather) -> None:
        if (texts := await self._gathering.gather(batch)) is not None:
            self._cycle.note_gathered(batch, texts)

    async def _ask(self, call: CallToSend) -> None:
        self._cycle.note_ended(await self._asking.ask(call))
