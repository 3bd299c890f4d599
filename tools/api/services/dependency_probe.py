"""Whether a dependency still answers, as /readyz wants to know it."""

import asyncio
from collections.abc import Awaitable, Callable

from schemas.errors import CJStreamError

FRESH_S = 30.0  # an answer so old still counts
PATIENCE_S = 3.0


class DependencyProbe:
    """Whether a dependency has answered lately; it is asked again where it has not."""

    def __init__(self, ask: Callable[[], Awaitable[object]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._heard_at = float("-inf")

    async def lately(self) -> bool:
        """Within 30 s, or now."""
        if self._clock() - self._heard_at < FRESH_S:
            return True
        try:
            await asyncio.wait_for(self._ask(), PATIENCE_S)
        except (CJStreamError, TimeoutError):
            return False
        self._heard_at = self._clock()
        return True
