"""Tells a worker when and why to stop."""

import asyncio
from contextlib import suppress


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
