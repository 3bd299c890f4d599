"""The content store as coroutines ask it: in threads of its own, each call within a time."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from processors.settings import Settings
from schemas.errors import ContentTimeout, Unreachable
from tables.content_store import PLAIN_TEXT, ContentStore, StoredText

THREADS = 8  # a store that hangs takes these and no others: Kafka's calls have their own
T = TypeVar("T")
log = logging.getLogger("cjstream.content")


class AsyncContentStore:
    """ContentStore's methods, to be awaited; each raises what it raises there, or ContentTimeout after timeout_s."""

    def __init__(self, store: ContentStore, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(THREADS, "content")

    @classmethod
    def of(cls, settings: Settings) -> "AsyncContentStore":
        """The store that the settings name. Raises Misconfigured."""
        store = ContentStore.at(settings.content, settings.content_max_bytes)
        return cls(store, settings.content_timeout_s)

    async def put(self, text: bytes, media_type: str = PLAIN_TEXT) -> StoredText:
        """Store a text; existed says whether it was there."""
        stored = await self._asked("upload", lambda: self._store.put(text, media_type))
        about = {"storage_id": stored.storage_id, "size_bytes": stored.size_bytes}
        log.info("content_stored", extra={**about, "existed": stored.existed})
        return stored

    async def get(self, storage_id: str) -> bytes:
        """The bytes of a text, checked."""
        return await self._asked("download", lambda: self._store.get(storage_id))

    async def head(self, storage_id: str) -> StoredText:
        """What is known of a text, its bytes not read."""
        return await self._asked("head", lambda: self._store.head(storage_id))

    async def renew(self, storage_id: str) -> StoredText:
        """Check a text and make it young: to be called before an event names one that was there already."""
        return await self._asked("renew", lambda: self._store.renew(storage_id))

    async def probe(self) -> None:
        """Return when the store has answered anything."""
        await self._asked("probe", self._store.probe)

    def close(self) -> None:
        """Let the threads go; what they are at is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _asked(self, operation: str, ask: Callable[[], T]) -> T:
        asking = asyncio.get_running_loop().run_in_executor(self._threads, ask)
        try:
            return await asyncio.wait_for(asking, self._timeout_s)
        except TimeoutError as fault:
            log.error("content_failed", extra={"operation": operation, "cause": "ContentTimeout"})
            raise ContentTimeout(f"content store: no answer in {self._timeout_s:g} s") from fault
        except Unreachable as fault:
            about = {"operation": operation, "cause": type(fault).__name__}
            log.error("content_failed", extra=about)
            raise
