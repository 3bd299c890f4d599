"""Whether a dependency still answers, for /readyz."""

import asyncio
from collections.abc import Awaitable, Callable

from schemas.errors import CJStreamError

FRESH_S = 30.0  # an answer up to this age still counts
PROBE_TIMEOUT_S = 3.0


class DependencyProbe:
    """Whether a dependency has answered recently; if not, it is asked again."""

    def __init__(self, ask: Callable[[], Awaitable[object]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._answered_s = float("-inf")

    async def has_answered_recently(self) -> bool:
        """Whether it answered within the last FRESH_S seconds, or answers now."""
        if self._clock() - self._answered_s < FRESH_S:
            return True
        try:
            await asyncio.wait_for(self._ask(), PROBE_TIMEOUT_S)
        except (CJStreamError, TimeoutError):
            return False
        self._answered_s = self._clock()
        return True
