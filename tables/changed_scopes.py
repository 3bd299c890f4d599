"""Which scopes an upload has reached since somebody last asked."""

import threading
from collections.abc import Collection


class ChangedScopes:
    """Scope keys, put in by the thread that folds and taken out by the one that waits for them."""

    def __init__(self) -> None:
        self._scope_keys: dict[str, None] = {}
        self._lock = threading.Lock()

    def add(self, scope_keys: Collection[str]) -> None:
        """The contexts of these scopes have changed."""
        with self._lock:
            self._scope_keys.update(dict.fromkeys(scope_keys))

    def drain(self) -> list[str]:
        """Those that changed since the last call, in the order of their first change."""
        with self._lock:
            taken, self._scope_keys = self._scope_keys, {}
        return list(taken)
