"""What was, as the routes ask for it: the audit's own answers, worked out in threads of their own."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar

from processors.log.reader import LogReader
from processors.log.upload_topics import update_index, upload_topic_ids
from processors.settings import Settings, upload_partitions, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Partition
from schemas.errors import Discrepancy
from schemas.partitioner import partition_for
from tables.content_store import ContentStore
from tables.history.point_in_time import Moment
from tables.history.scope_history import ScopeHistory, history_of
from tables.history.upload_index import UploadIndex, temporary_index
from tools.api.services import json_lines
from tools.audit.batch.batch_json import document_of as batch_document
from tools.audit.batch.batch_story import batch
from tools.audit.check.scan_range import scan_range_of
from tools.audit.local_replicas import made_anew
from tools.audit.scope.as_of import ScopeReport, positions_at, scope_report
from tools.audit.scope.history import UploadUses, uses

THREADS = 2  # the join and the admin routes need the processor, too
T = TypeVar("T")
Document = dict[str, Any]


class AuditService(Protocol):
    """What the routes ask of the past."""

    async def as_of(
        self, scope_key: str, moments: Sequence[Moment], *, texts: bool
    ) -> list[ScopeReport]: ...
    async def history(
        self, scope_key: str, *, with_uses: bool
    ) -> tuple[ScopeHistory, UploadUses | None]: ...
    async def batch(self, batch_id: str, *, texts: bool, everywhere: bool) -> Document | None: ...
    def replay(
        self, since: Moment | None, until: Moment | None, scope_keys: list[str]
    ) -> Iterator[bytes]: ...
    def verify(
        self, since: Moment | None, until: Moment | None, *, texts: bool
    ) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class LogAuditService:
    """The past as the log tells it; what has been read of the upload topics is kept in an index on disk."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._threads = ThreadPoolExecutor(THREADS, "past")
        self._uploads = _Uploads(settings, codec)

    async def as_of(
        self, scope_key: str, moments: Sequence[Moment], *, texts: bool
    ) -> list[ScopeReport]:
        """The scope at each moment. Raises Discrepancy for a moment that the log does not have; Unreachable."""
        return await self._asked(lambda: self._stood(scope_key, moments, texts=texts))

    async def history(
        self, scope_key: str, *, with_uses: bool
    ) -> tuple[ScopeHistory, UploadUses | None]:
        """The scope's history, and how many batches used each version. Raises Unreachable."""
        return await self._asked(lambda: self._history(scope_key, with_uses=with_uses))

    async def batch(self, batch_id: str, *, texts: bool, everywhere: bool) -> Document | None:
        """All about a batch, None where there is no request of it. Raises Unreachable."""
        return await self._asked(lambda: self._batch(batch_id, texts=texts, everywhere=everywhere))

    def replay(
        self, since: Moment | None, until: Moment | None, scope_keys: list[str]
    ) -> Iterator[bytes]:
        """As JSON lines: contexts, and the summary. Blocks; raises Unreachable, Discrepancy."""
        return json_lines.replayed(self._settings, since, until, scope_keys)

    def verify(self, since: Moment | None, until: Moment | None, *, texts: bool) -> Iterator[bytes]:
        """As JSON lines: findings, and the report. Blocks; raises Unreachable, Discrepancy."""
        return json_lines.verified(self._settings, _now_ms(), since, until, texts=texts)

    def close(self) -> None:
        """Let the threads go, and the index."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._uploads.close()

    async def _asked(self, ask: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def _stood(
        self, scope_key: str, moments: Sequence[Moment], *, texts: bool
    ) -> list[ScopeReport]:
        positions = [positions_at(self._settings, one) for one in moments]
        found = self._uploads.history(scope_key, everywhere=False)  # after them: beyond them all
        settings = self._settings
        store = ContentStore.at(settings.content, settings.content_max_bytes) if texts else None
        return [scope_report(found, one, store) for one in positions]

    def _batch(self, batch_id: str, *, texts: bool, everywhere: bool) -> Document | None:
        extent = scan_range_of(self._settings, None, None)
        stories = batch(self._settings, extent, batch_id, _now_ms(), {}, everywhere=everywhere)
        return batch_document(batch_id, stories, self._codec, texts=texts) if stories else None

    def _history(
        self, scope_key: str, *, with_uses: bool
    ) -> tuple[ScopeHistory, UploadUses | None]:
        found = self._uploads.history(scope_key, everywhere=True)
        return found, uses(self._settings, found) if with_uses else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Uploads:
    """The upload topics in an index that is read on whenever it is asked."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._topics = upload_topics(settings)
        self._codec = codec
        self._reading = threading.Lock()
        self._open = ExitStack()
        self._index: UploadIndex | None = None

    def history(self, scope_key: str, *, everywhere: bool) -> ScopeHistory:
        with self._reading:
            try:
                return self._read(scope_key, everywhere=everywhere)
            except Discrepancy:  # the log may have lost what the index was to go on from
                if self._index is None:
                    raise
                self._forget()
                return self._read(scope_key, everywhere=everywhere)

    def close(self) -> None:
        with self._reading:
            self._forget()

    def _read(self, scope_key: str, *, everywhere: bool) -> ScopeHistory:
        settings = self._settings
        topic_ids = upload_topic_ids(settings)
        belongs = partition_for(scope_key.encode(), settings.partitions)
        wanted: list[Partition] = [
            one for one in upload_partitions(settings) if everywhere or one.partition == belongs
        ]
        with LogReader(settings, wanted) as log:
            retained = log.offset_ranges()
        starts = {one: low for one, (low, _) in retained.items()}
        index = self._opened()
        update_index(index, settings, wanted, {one: end for one, (_, end) in retained.items()})
        records = [one for name in self._topics.by_name for one in index.of(name, scope_key)]
        anew = made_anew(settings, topic_ids)
        return history_of(scope_key, records, starts, self._codec, self._topics, anew)

    def _opened(self) -> UploadIndex:
        if self._index is None:
            folder = self._settings.api_dir / "audit"
            shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
            folder.mkdir(parents=True)
            self._index = self._open.enter_context(temporary_index(self._topics, folder))
        return self._index

    def _forget(self) -> None:
        self._index = None
        self._open.close()
