"""The past for the audit routes: the results of the audit commands, computed in separate threads."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import orjson

from processors.log.reader import LogReader
from processors.log.set_aside import administered_topics_with_set_aside
from processors.log.upload_topics import update_index, upload_topic_ids
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Positions
from schemas.errors import Discrepancy
from schemas.partitioner import partition_for
from tables.content_store import ContentStore
from tables.history.point_in_time import Moment
from tables.history.scope_history import ScopeHistory, history_of
from tables.history.upload_index import UploadIndex, temporary_index
from tools.audit.batch.batch_story import batch
from tools.audit.batch.batch_story import document_of as batch_document
from tools.audit.check.findings import Violation
from tools.audit.check.scan_range import scan_range_of
from tools.audit.local_replicas import recreated_topics
from tools.audit.replay import replay
from tools.audit.scope.as_of import ScopeReport, positions_at, scope_report
from tools.audit.scope.history import UploadUses, uses
from tools.audit.verify import verify

THREADS = 2  # the join and the admin routes need CPU time, too
MAX_FINDINGS = 1000  # sent one by one; all are counted
T = TypeVar("T")


class AuditService:
    """The past as read from the log; records of the upload topics are kept in an index on disk."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._threads = ThreadPoolExecutor(THREADS, "past")
        self._uploads = _Uploads(settings, codec)

    async def as_of(self, scope_key: str, moment: Moment, *, texts: bool) -> ScopeReport:
        """The scope at a moment. Raises Discrepancy for a moment that the log does not have, and Unreachable."""
        settings = self._settings

        def read() -> ScopeReport:
            positions = positions_at(settings, moment)
            # read after the positions, so that it covers all of them
            history = self._uploads.history(scope_key, everywhere=False)
            return scope_report(history, positions, self._content_store() if texts else None)

        return await self._run(read)

    async def history(
        self, scope_key: str, *, with_uses: bool
    ) -> tuple[ScopeHistory, UploadUses | None]:
        """The scope's history and, with_uses, how many batches used each version. Raises Unreachable."""

        def read() -> tuple[ScopeHistory, UploadUses | None]:
            history = self._uploads.history(scope_key, everywhere=True)
            return history, uses(self._settings, history) if with_uses else None

        return await self._run(read)

    async def scope(
        self, scope_key: str, moment: Moment | None
    ) -> tuple[ScopeHistory, ScopeReport]:
        """The scope's history, and its state with texts at a moment or now, from one read. Raises as `as_of`."""
        settings = self._settings

        def read() -> tuple[ScopeHistory, ScopeReport]:
            positions = positions_at(settings, moment) if moment else _ends(settings)
            # read after the positions, so that it covers all of them
            history = self._uploads.history(scope_key, everywhere=True)
            return history, scope_report(history, positions, self._content_store())

        return await self._run(read)

    async def batch(self, batch_id: str, *, texts: bool, everywhere: bool) -> dict[str, Any] | None:
        """Everything about a batch; None if the log has no request of it. Raises Unreachable."""
        settings = self._settings

        def read() -> dict[str, Any] | None:
            scan_range = scan_range_of(settings, None, None)
            stories = batch(
                settings,
                scan_range,
                batch_id,
                _now_ms(),
                {},
                everywhere=everywhere,
                show_texts=texts,
            )
            return batch_document(batch_id, stories) if stories else None

        return await self._run(read)

    def replay(
        self, since: Moment | None, until: Moment | None, scope_keys: list[str]
    ) -> Generator[bytes, None, None]:
        """Contexts, then the summary, as JSON lines; empty ones while the log is read.

        Blocks; raises Unreachable, Discrepancy, UnknownSchema.
        """
        replay_range = replay.range_of(self._settings, since, until)
        for result in replay.replay(self._settings, replay_range, scope_keys):
            match result:
                case replay.ContextLines(lines):
                    yield lines
                case replay.ReplaySummary():
                    yield _line("summary", replay.summary_document(result))
                case _:
                    yield b""

    def verify(
        self, since: Moment | None, until: Moment | None, *, texts: bool
    ) -> Generator[bytes, None, None]:
        """Findings as they are found, then the report, as JSON lines. Blocks; raises as `replay`, and StoreFailed."""
        reported = list[Violation]()
        for result in verify.verify(
            self._settings, _now_ms(), since=since, until=until, texts=texts
        ):
            match result:
                case Violation() if len(reported) < MAX_FINDINGS:
                    reported.append(result)
                    yield _line("finding", verify.finding_document(result))
                case verify.VerifyReport():
                    yield _line("summary", verify.document_of(result, reported))
                case _:
                    yield b""

    def close(self) -> None:
        """Stop the threads and close the index."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._uploads.close()

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _content_store(self) -> ContentStore:
        return ContentStore.open(self._settings.content, self._settings.content_max_bytes)


def _ends(settings: Settings) -> Positions:
    with LogReader(settings, settings.administered_partitions) as log:
        return {partition: end for partition, (_, end) in log.offset_ranges().items()}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _line(name: str, document: object) -> bytes:
    return orjson.dumps({name: document}, option=orjson.OPT_APPEND_NEWLINE)


class _Uploads:
    """The upload topics in an index, which is updated on every call."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._topics = administered_topics_with_set_aside(settings)
        self._codec = codec
        self._lock = threading.Lock()
        self._resources = ExitStack()
        self._index: UploadIndex | None = None

    def history(self, scope_key: str, *, everywhere: bool) -> ScopeHistory:
        with self._lock:
            try:
                return self._read(scope_key, everywhere=everywhere)
            except Discrepancy:  # the log may have deleted the records that the index needs next
                if self._index is None:
                    raise
                self._close_index()
                return self._read(scope_key, everywhere=everywhere)

    def close(self) -> None:
        with self._lock:
            self._close_index()

    def _read(self, scope_key: str, *, everywhere: bool) -> ScopeHistory:
        settings = self._settings
        topic_ids = upload_topic_ids(settings)
        own_partition = partition_for(scope_key.encode(), settings.partitions)
        partitions = [
            partition
            for partition in settings.administered_partitions
            if everywhere or partition.partition == own_partition
        ]
        with LogReader(settings, partitions) as log:
            retained = log.offset_ranges()
        starts = {partition: start for partition, (start, _) in retained.items()}
        ends = {partition: end for partition, (_, end) in retained.items()}
        index = self._open_index()
        update_index(index, settings, partitions, ends)
        records = [
            record for name in self._topics.by_name for record in index.records_of(name, scope_key)
        ]
        recreated = recreated_topics(settings, topic_ids)
        return history_of(scope_key, records, starts, self._codec, self._topics, recreated)

    def _open_index(self) -> UploadIndex:
        if self._index is None:
            folder = self._settings.api_dir / "audit"
            shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
            folder.mkdir(parents=True)
            self._index = self._resources.enter_context(temporary_index(self._topics, folder))
        return self._index

    def _close_index(self) -> None:
        self._index = None
        self._resources.close()
