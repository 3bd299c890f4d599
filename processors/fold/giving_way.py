"""Work on the published view gives way to batch preparation, for no batch waits for the view: it rests in between."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

MAX_REST_S = 5.0


@dataclass(frozen=True, slots=True)
class GivingWay:
    """How long to rest after a piece of work, as multiples of the time that it took."""

    is_busy: Callable[[], bool]  # whether batch preparation is
    idle: float
    busy: float

    def rest_s(self, took_s: float) -> float:
        """How long to rest now, in seconds, after work that took that long."""
        return min(MAX_REST_S, took_s * (self.busy if self.is_busy() else self.idle))

    async def rest_after(self, took_s: float) -> None:
        """Rest, on an event loop, after work that took that long."""
        await asyncio.sleep(self.rest_s(took_s))
