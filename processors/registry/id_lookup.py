"""Looks up the schemas of unknown ids, in a registry for example; caches the results and limits the calls."""

import logging
from collections import deque
from collections.abc import Callable
from threading import Lock

from schemas.codec import canonical_or_none
from schemas.errors import Unreachable

log = logging.getLogger("cjstream.registry")
CALLS_A_MINUTE = 10
CACHE_S = 60.0
MAX_CACHED = 1000
RETRY_AFTER_S = 30.0


class IdLookup:
    """Looks up the schema of an unknown id: each id at most once a minute, and CALLS_A_MINUTE ids in all.

    Damaged bytes may contain any id, and must not cause a call per record.
    """

    def __init__(
        self, schema_of: Callable[[int], str | None], monotonic: Callable[[], float]
    ) -> None:
        self._schema_of = schema_of
        self._monotonic = monotonic
        self._lock = Lock()
        self._calls = deque[float](maxlen=CALLS_A_MINUTE)
        self._cache: dict[int, tuple[float, str | None]] = {}
        self._paused_until = float("-inf")

    def form_of(self, schema_id: int) -> str | None:
        """The canonical form of the schema with this id; None if there is none. Raises Unreachable."""
        with self._lock:
            now = self._monotonic()
            looked_up_at, form = self._cache.get(schema_id, (float("-inf"), None))
            if now - looked_up_at < CACHE_S:
                return form
            if not self._may_call(now):
                raise Unreachable(
                    "too many unknown schema ids, or the schema registry did not answer"
                )
            self._calls.append(now)
            try:
                form = canonical_or_none(self._schema_of(schema_id))
            except Unreachable as fault:
                log.warning("unknown schema ids cannot be looked up", extra={"fault": str(fault)})
                self._paused_until = now + RETRY_AFTER_S
                raise
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[schema_id] = now, form
            return form

    def _may_call(self, now: float) -> bool:
        is_limit_reached = len(self._calls) == CALLS_A_MINUTE and now - self._calls[0] < CACHE_S
        return not is_limit_reached and now >= self._paused_until
