"""Tells a worker or a judge when and why to stop, and bounds how long that takes."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress

STOP_S = 8.5


class Shutdown:
    """The request to stop a worker; `fault` is the first error, None for a clean stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self.fault: BaseException | None = None

    def fail(self, fault: BaseException) -> None:
        """Stop with an error; may be called from any thread."""
        if self.fault is None:
            self.fault = fault
        self.stop()

    def stop(self) -> None:
        """Stop cleanly; may be called from any thread."""
        with suppress(RuntimeError):  # the loop is closed: the worker has already stopped
            self._loop.call_soon_threadsafe(self._event.set)

    @property
    def requested(self) -> bool:
        """Whether the worker should stop."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait until the worker should stop."""
        await self._event.wait()


def call_after(seconds: float, call: Callable[[], object]) -> None:
    """Make a call later, in a thread that keeps no process alive."""
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


def exit_after(seconds: float, shutdown: Shutdown, log: logging.Logger) -> None:
    """End the process if it still runs then: a thread inside a C call cannot be stopped.

    Fencing at the next start ends a transaction that this leaves open.
    """

    def exit_process() -> None:
        log.error(
            "did not stop in time, the process exits", extra={"fault": str(shutdown.fault or "")}
        )
        os._exit(getattr(shutdown.fault, "exit_code", 1))

    call_after(seconds, exit_process)
