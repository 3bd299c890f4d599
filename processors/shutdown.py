"""Why and when a worker stops."""

import asyncio
from contextlib import suppress


class Shutdown:
    """Why a worker is to end: the first fault, or the wish to stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self.fault: BaseException | None = None

    def fail(self, fault: BaseException) -> None:
        """End with a fault; from any thread."""
        if self.fault is None:
            self.fault = fault
        self.stop()

    def stop(self) -> None:
        """End cleanly; from any thread."""
        with suppress(RuntimeError):  # the loop is closed: it has ended already
            self._loop.call_soon_threadsafe(self._event.set)

    @property
    def requested(self) -> bool:
        """Whether the worker is to end."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait until it is."""
        await self._event.wait()
