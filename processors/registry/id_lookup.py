"""Schema ids that no released schema has here: which schemas they are, by asking whoever knows, and not too often."""

import logging
from collections import deque
from collections.abc import Callable
from threading import Lock

from schemas.codec import canonical_or_none
from schemas.errors import Unreachable

log = logging.getLogger("cjstream.registry")
CALLS_A_MINUTE = 10  # damaged bytes may hold any id
KEPT_S = 60.0
KEPT = 1000
AWAY_S = 30.0


class IdLookup:
    """Asks for the schemas of ids that are not known, each once a minute at most, and few a minute in all.

    Damaged bytes may hold any id, and must cost no call a record. An id that could not be asked for is unknown.
    """

    def __init__(
        self, schema_of: Callable[[int], str | None], monotonic: Callable[[], float]
    ) -> None:
        self._schema_of = schema_of
        self._monotonic = monotonic
        self._lock = Lock()
        self._calls = deque[float](maxlen=CALLS_A_MINUTE)
        self._kept: dict[int, tuple[float, str | None]] = {}
        self._away_until = float("-inf")

    def form_of(self, schema_id: int) -> str | None:
        """The canonical form of the schema with this id, None where that is not known."""
        with self._lock:
            now = self._monotonic()
            asked_at, form = self._kept.get(schema_id, (float("-inf"), None))
            if now - asked_at < KEPT_S or not self._may_call(now):
                return form
            self._calls.append(now)
            try:
                form = canonical_or_none(self._schema_of(schema_id))
            except Unreachable as fault:
                log.warning("unknown schema ids cannot be asked for", extra={"fault": str(fault)})
                self._away_until = now + AWAY_S
                return None
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[schema_id] = now, form
            return form

    def _may_call(self, now: float) -> bool:
        spent = len(self._calls) == CALLS_A_MINUTE and now - self._calls[0] < KEPT_S
        return not spent and now >= self._away_until
