"""The scopes whose context has changed since the last call of `drain`."""

import threading
from collections.abc import Collection


class ChangedScopes:
    """Scope keys; the folding thread adds them, the thread that releases parked requests drains them."""

    def __init__(self) -> None:
        self._scope_keys: dict[str, None] = {}
        self._lock = threading.Lock()

    def add(self, scope_keys: Collection[str]) -> None:
        """Record that the contexts of these scopes have changed."""
        with self._lock:
            self._scope_keys.update(dict.fromkeys(scope_keys))

    def drain(self) -> list[str]:
        """The scopes that changed since the last call, in the order of their first change."""
        with self._lock:
            drained, self._scope_keys = self._scope_keys, {}
        return list(drained)
