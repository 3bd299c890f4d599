"""The scopes whose context has changed since the last call of `drain`."""

import threading
from collections.abc import Collection

MAX_SCOPES = 50_000


class ChangedScopes:
    """Scope keys; the folding thread adds them, the thread that releases parked requests drains them.

    A first fold may change millions of scopes before anything is drained: beyond `max_scopes` they are not kept.
    """

    def __init__(self, max_scopes: int = MAX_SCOPES) -> None:
        self._max_scopes = max_scopes
        self._scope_keys: dict[str, None] | None = {}  # None: too many
        self._lock = threading.Lock()

    def add(self, scope_keys: Collection[str]) -> None:
        """Record that the contexts of these scopes have changed."""
        with self._lock:
            if self._scope_keys is not None:
                self._scope_keys.update(dict.fromkeys(scope_keys))
                if len(self._scope_keys) > self._max_scopes:
                    self._scope_keys = None

    def drain(self) -> list[str] | None:
        """The scopes that changed since the last call, in the order of their first change; None: any may have."""
        with self._lock:
            drained, self._scope_keys = self._scope_keys, {}
        return None if drained is None else list(drained)
