"""The broker's clock as far as it is known: the newest append time seen, and monotonic time since.

Deadlines rest on it, for the clocks of two workers may be an hour apart.
"""

import time
from collections.abc import Callable


class BrokerClock:
    """Says what time it is at the broker. One thread at a time calls it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ahead_ms: float | None = None  # of our monotonic clock

    def observe(self, appended_at_ms: int) -> None:
        """A record was appended at that time, now or earlier."""
        ahead = appended_at_ms - self._monotonic() * 1000
        if self._ahead_ms is None or ahead > self._ahead_ms:
            self._ahead_ms = ahead

    @property
    def now_ms(self) -> int:
        """Milliseconds since the epoch, never too late; 0 where nothing was seen yet."""
        return 0 if self._ahead_ms is None else round(self._ahead_ms + self._monotonic() * 1000)
