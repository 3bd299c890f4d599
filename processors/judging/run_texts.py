"""The texts of open runs, read from the content store and kept while there is room."""

from collections import OrderedDict
from collections.abc import Mapping

from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from schemas.errors import Malformed, Unreachable
from tables.content_store import ContentStore

MAX_BYTES = 64 * 1024 * 1024
RETRY_S = 1.0  # how long a store that did not answer is left alone: each open run would wait for it in turn


class RunTexts:
    """The least recently used texts go first. The cycle thread alone uses it."""

    def __init__(
        self, store: ContentStore, max_bytes: int = MAX_BYTES, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._clock = clock
        self._retry_at = 0.0
        self._bytes = 0
        self._texts: OrderedDict[str, str] = OrderedDict()

    def add(self, texts: Mapping[str, str]) -> None:
        """Keep texts that were read already."""
        for storage_id, text in texts.items():
            self._keep(storage_id, text)

    def put(self, text: str) -> None:
        """Store a text, and keep it; blocks. Raises Unreachable."""
        self._keep(self._store.put(text.encode()).storage_id, text)

    def get(self, storage_id: str) -> str:
        """A text; blocks if it must be read. Raises Unreachable, ContentMissing, ContentCorrupt, Malformed."""
        text = self._texts.get(storage_id)
        if text is not None:
            self._texts.move_to_end(storage_id)
            return text
        if self._clock.monotonic() < self._retry_at:
            raise Unreachable("the content store did not answer just now")
        try:
            text = self._store.get(storage_id).decode()
        except UnicodeDecodeError as fault:
            raise Malformed(f"content {storage_id} is not UTF-8") from fault
        except Unreachable:
            self._retry_at = self._clock.monotonic() + RETRY_S
            raise
        self._keep(storage_id, text)
        return text

    def _keep(self, storage_id: str, text: str) -> None:
        if storage_id in self._texts:
            return
        self._texts[storage_id] = text
        self._bytes += len(text)
        while self._bytes > self._max_bytes and len(self._texts) > 1:
            _, dropped = self._texts.popitem(last=False)
            self._bytes -= len(dropped)
