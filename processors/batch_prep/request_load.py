"""Whether batch preparation is busy: whether requests come faster than batches are committed."""

from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock

BUSY_REQUESTS = 1000  # so many in one fetch have waited for the batch before
BUSY_S = 1.0  # after such a fetch


class RequestLoad:
    """Notes how many requests each fetch had; any thread may ask."""

    def __init__(self, batch_max: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._busy_requests = min(BUSY_REQUESTS, batch_max)
        self._clock = clock
        self._busy_until_s = 0.0

    def fetched(self, requests: int) -> None:
        """Note a fetch of that many requests."""
        if requests >= self._busy_requests:
            self._busy_until_s = self._clock.monotonic() + BUSY_S

    def is_busy(self) -> bool:
        """Whether requests wait to be prepared."""
        return self._clock.monotonic() < self._busy_until_s
