"""The content store for coroutines: calls run in their own threads, each with a time limit."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from processors.settings import Settings
from schemas.errors import CJStreamError, ContentTimeout, Unreachable
from tables.content_store import PLAIN_TEXT, ContentStore, StoredText

FRESH_S = 30.0  # an answer up to this age still counts as one
PROBE_TIMEOUT_S = 3.0
THREADS = 8  # a store that hangs blocks only these: Kafka calls have their own
T = TypeVar("T")
log = logging.getLogger("cjstream.content")


class AsyncContentStore:
    """ContentStore's methods as coroutines; each raises what ContentStore raises, or ContentTimeout after timeout_s."""

    def __init__(self, store: ContentStore, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(THREADS, "content")
        self._answered_s = float("-inf")
        self._probing: asyncio.Task[bool] | None = None

    @classmethod
    def of(cls, settings: Settings) -> "AsyncContentStore":
        """The store in the settings. Raises Misconfigured."""
        store = ContentStore.open(settings.content, settings.content_max_bytes)
        return cls(store, settings.content_timeout_s)

    async def put(self, text: bytes, media_type: str = PLAIN_TEXT) -> StoredText:
        """Store a text; `existed` says whether it was stored before."""
        stored = await self._run("upload", lambda: self._store.put(text, media_type))
        fields = {"storage_id": stored.storage_id, "size_bytes": stored.size_bytes}
        log.info("text stored", extra={**fields, "existed": stored.existed})
        return stored

    async def get(self, storage_id: str) -> bytes:
        """The bytes of a text, checked against its id."""
        return await self._run("download", lambda: self._store.get(storage_id))

    async def head(self, storage_id: str) -> StoredText:
        """The metadata of a text; its bytes are not read."""
        return await self._run("head", lambda: self._store.head(storage_id))

    async def renew(self, storage_id: str) -> StoredText:
        """Check a text and reset its age; call it before an event names a text that is stored already."""
        return await self._run("renew", lambda: self._store.renew(storage_id))

    async def has_answered_recently(self) -> bool:
        """Whether a probe was answered within the last FRESH_S seconds, or is answered now."""
        if time.monotonic() - self._answered_s < FRESH_S:
            return True
        if (
            self._probing is None
        ):  # one for all callers: anybody may ask, and a hanging store holds its threads
            self._probing = asyncio.create_task(self._probe())
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._probing), PROBE_TIMEOUT_S)
        return False

    async def _probe(self) -> bool:
        try:
            await self._run("probe", self._store.probe)
            self._answered_s = time.monotonic()
            return True
        except CJStreamError:
            return False
        finally:
            self._probing = None

    def close(self) -> None:
        """Stop the threads without waiting for their current calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, operation: str, call: Callable[[], T]) -> T:
        waiting = [call]  # emptied if it times out in the queue: its text must not stay there
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: waiting.pop()())
        try:
            return await asyncio.wait_for(future, self._timeout_s)
        except (TimeoutError, Unreachable) as fault:
            if isinstance(fault, TimeoutError):
                fault = ContentTimeout(f"content store: no answer in {self._timeout_s:g} s")
            cause = f"{type(fault).__name__}: {fault}"
            fields = {"operation": operation, "cause": cause}
            log.error("content store failed", extra=fields)
            raise fault
        finally:
            waiting.clear()
