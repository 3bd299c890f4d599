"""Rate limit per subject in this process: a token bucket, refilled evenly at N requests a minute."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tools.api.errors.problems import Problem

MAX_SUBJECTS = 10_000


@dataclass(slots=True)
class _Bucket:
    remaining: float
    updated_s: float


class RateLimit:
    """A token bucket per subject; `per_minute` 0 means no limit. `clock` returns monotonic seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def consume(self, subject: str) -> None:
        """Count one request. Raises 429 with the seconds until the next one is allowed."""
        if not self._per_minute:
            return
        now_s = self._clock()
        bucket = self._buckets.pop(subject, None) or _Bucket(self._per_minute, now_s)
        refilled = bucket.remaining + (now_s - bucket.updated_s) * self._per_minute / 60
        bucket.remaining, bucket.updated_s = min(self._per_minute, refilled), now_s
        self._remember(subject, bucket)
        if bucket.remaining < 1:
            wait_s = math.ceil((1 - bucket.remaining) * 60 / self._per_minute)
            raise Problem(
                "rate-limited",
                f"more than {self._per_minute} requests a minute",
                headers={"Retry-After": str(wait_s)},
            )
        bucket.remaining -= 1

    def _remember(self, subject: str, bucket: _Bucket) -> None:
        """Put the subject last; if there are too many, delete the one that has called least recently."""
        self._buckets[subject] = bucket
        if len(self._buckets) > MAX_SUBJECTS:
            del self._buckets[next(iter(self._buckets))]
