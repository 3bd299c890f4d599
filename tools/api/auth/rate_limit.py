"""How often one subject may call this process: so many requests a minute, used up and refilled evenly."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tools.api.errors.problems import Problem

MOST_SUBJECTS = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float


class RateLimit:
    """A bucket for each subject; per_minute 0 lets everything pass. clock gives seconds that only grow."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def spend(self, subject: str) -> None:
        """Count one request. Raises 429 with the seconds until the next may come."""
        if not self._per_minute:
            return
        now = self._clock()
        bucket = self._buckets.pop(subject, None) or _Bucket(self._per_minute, now)
        refilled = bucket.left + (now - bucket.at_s) * self._per_minute / 60
        bucket.left, bucket.at_s = min(self._per_minute, refilled), now
        self._remember(subject, bucket)
        if bucket.left < 1:
            wait_s = math.ceil((1 - bucket.left) * 60 / self._per_minute)
            raise Problem(
                "rate-limited",
                f"more than {self._per_minute} requests a minute",
                headers={"Retry-After": str(wait_s)},
            )
        bucket.left -= 1

    def _remember(self, subject: str, bucket: _Bucket) -> None:
        """Put it last; of too many, the one that has called least recently is forgotten."""
        self._buckets[subject] = bucket
        if len(self._buckets) > MOST_SUBJECTS:
            del self._buckets[next(iter(self._buckets))]
