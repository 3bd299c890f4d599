"""An estimate of the broker's clock: the newest append time seen, plus the monotonic time since then.

Deadlines use it because the clocks of two workers may differ by an hour.
"""

import time
from collections.abc import Callable


class BrokerClock:
    """The current time at the broker. Not thread-safe: one thread at a time may call it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ahead_ms: float | None = None  # of our monotonic clock

    def observe(self, appended_at_ms: int) -> None:
        """Take note of a record's append time; it may be an old record."""
        ahead = appended_at_ms - self._monotonic() * 1000
        if self._ahead_ms is None or ahead > self._ahead_ms:
            self._ahead_ms = ahead

    @property
    def now_ms(self) -> int:
        """Milliseconds since the epoch, never ahead of the broker; 0 if no record was observed yet."""
        return 0 if self._ahead_ms is None else round(self._ahead_ms + self._monotonic() * 1000)
