"""Results for the results routes: an index of them on disk, and what the log says of single runs."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from processors.kafka.records import LogRecord
from processors.log.judging_log import JudgingLog, result_of
from schemas.codec import Codec
from schemas.coordinates import Partition, coordinates_from
from schemas.errors import BadRecord
from schemas.events import CJBatchUnresolved
from tables.judging.result_index import IndexedRecord, ResultIndex
from tables.store import RocksStore, Store
from tools.audit_json import instant
from tools.results.documents import (
    call_documents,
    comparison_documents,
    ledger_document,
    progress_document,
    result_document,
    run_document,
    summary_document,
)

if TYPE_CHECKING:  # importing it takes long: the API does so with the first request that needs it
    from tables.judging.run import Run

THREADS = 2  # the admin routes need CPU time, too
CHUNK = 1000  # records in one write
CACHE_MB = 16
T = TypeVar("T")
Document = dict[str, Any]


class ResultsService:
    """The results as the log has them when it is asked; each call first reads what is new. Raises Unreachable.

    The index is built anew by the first call of a process, which takes some time if there are many results.
    """

    def __init__(self, log: JudgingLog, codec: Codec, new_store: Callable[[], Store]) -> None:
        self._log = log
        self._codec = codec
        self._new_store = new_store
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "results")
        topics = log.settings.topics
        self._topics = (topics.results, topics.unresolved)
        self._index: ResultIndex | None = None

    async def page(
        self, assignment_id: str | None, start: int, size: int
    ) -> tuple[list[Document], int]:
        """Results from number `start` on, the newest first, and how many there are in all."""

        def read() -> tuple[list[Document], int]:
            documents, total = self._refreshed().page(assignment_id, start, size)
            return list(map(orjson.loads, documents)), total

        return await self._run(read)

    async def result(self, batch_id: str, run_id: str | None) -> Document | None:
        """The newest result of a batch, or that of a run; None if there is none, or if the log no longer has it."""

        def read() -> Document | None:
            summary = self._summary(batch_id, run_id)
            record = None if summary is None else self._record_at(summary["at"])
            return None if record is None else result_document(result_of(record, self._codec))

        return await self._run(read)

    async def status(self, batch_id: str) -> Document:
        """What is known last of a batch: unknown, unresolved, judging or judged."""

        def read() -> Document:
            from tools.results.lookup import open_run_of_batch

            index = self._refreshed()
            states: list[Document] = [{"state": "unknown", "since": ""}]
            if unresolved := index.unresolved(batch_id):
                states.append(orjson.loads(unresolved))
            if summary := next(map(orjson.loads, index.results_of(batch_id)), None):
                states.append({"state": "judged", "since": summary["judged_at"], "result": summary})
            if logged := open_run_of_batch(self._log, self._codec, batch_id):
                progress = progress_document(logged)
                states.append(
                    {"state": "judging", "since": progress["opened_at"], "progress": progress}
                )
            newest = max(states, key=lambda state: state["since"])
            return {"batch_id": batch_id, **newest, "since": newest["since"] or None}

        return await self._run(read)

    async def open_runs(self) -> list[Document]:
        """The runs that are in progress, with their spending by wave; the oldest first."""

        def read() -> list[Document]:
            from processors.log.judging_runs import open_runs

            runs = map(run_document, open_runs(self._log, self._codec))
            return sorted(runs, key=lambda run: str(run["opened_at"]))

        return await self._run(read)

    async def comparisons(
        self, batch_id: str, run_id: str | None, start: int, size: int
    ) -> Document | None:
        """Comparisons of a run from number `start` on; None if the batch has no run. Raises Discrepancy."""

        def document_of(run: "Run") -> Document:
            return _page_of(run, list(comparison_documents(run)), start, size)

        return await self._document_of_run(batch_id, run_id, document_of)

    async def ledger(
        self, batch_id: str, run_id: str | None, start: int, size: int
    ) -> Document | None:
        """What a run has cost, and its calls from number `start` on; None as in `comparisons`."""

        def document_of(run: "Run") -> Document:
            page = _page_of(run, list(call_documents(run)), start, size)
            return {**page, **ledger_document(run)}

        return await self._document_of_run(batch_id, run_id, document_of)

    def close(self) -> None:
        """Stop the threads and close the index."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            self._close_index()

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _summary(self, batch_id: str, run_id: str | None) -> Document | None:
        found = map(orjson.loads, self._refreshed().results_of(batch_id))
        return next((one for one in found if run_id in (None, one["run_id"])), None)

    def _record_at(self, at: str) -> LogRecord | None:
        return next(iter(self._log.records_at([coordinates_from(at)])), None)

    async def _document_of_run(
        self, batch_id: str, run_id: str | None, document_of: Callable[["Run"], Document]
    ) -> Document | None:
        """What `document_of` makes of a batch's run; None if it has none."""

        def read() -> Document | None:
            run = self._run_of(batch_id, run_id)
            return None if run is None else document_of(run)

        return await self._run(read)

    def _run_of(self, batch_id: str, run_id: str | None) -> "Run | None":
        """The newest run of a batch, judged or open, or the one with this id."""
        from processors.log.judging_runs import judged_run
        from tools.results.lookup import open_run_of_batch

        logged = open_run_of_batch(self._log, self._codec, batch_id, run_id)
        if logged is not None:
            return logged.run
        summary = self._summary(batch_id, run_id)
        record = None if summary is None else self._record_at(summary["at"])
        if record is None:
            return None
        result = result_of(record, self._codec).result
        if result.provenance.judging is None:  # refused
            return None
        return judged_run(self._log, self._codec, result.provenance.judging, result.run_id)

    def _refreshed(self) -> ResultIndex:
        """The index with everything that the log has now."""
        with self._lock:
            ranges = self._log.ranges_of(*self._topics)
            index = self._open_index()
            positions = index.positions()
            if any(positions.get(tp, 0) > end for tp, (_, end) in ranges.items()):
                self._close_index()  # a topic was created anew
                index, positions = self._open_index(), {}
            starts = {tp: max(low, positions.get(tp, 0)) for tp, (low, _) in ranges.items()}
            ends = {tp: end for tp, (_, end) in ranges.items() if starts[tp] < end}
            if ends:
                for records in _chunks(self._log.records({tp: starts[tp] for tp in ends}, ends)):
                    index.add(list(self._indexed(records)), _positions_after(records))
                index.add((), ends)
            return index

    def _indexed(self, records: list[LogRecord]) -> Iterator[IndexedRecord]:
        """What the index holds of records; `audit verify` reports those that cannot be read."""
        for record in records:
            with suppress(BadRecord):
                if record.at.topic == self._topics[0].name:
                    found = result_of(record, self._codec)
                    yield IndexedRecord(
                        at=record.at,
                        appended_at_ms=record.appended_at_ms,
                        batch_id=found.result.batch_id,
                        assignment_id=found.result.context.assignment_id,
                        is_result=True,
                        document=orjson.dumps(summary_document(found)),
                    )
                else:
                    event = self._codec.decode_as(CJBatchUnresolved, record.value)
                    yield IndexedRecord(
                        at=record.at,
                        appended_at_ms=record.appended_at_ms,
                        batch_id=event.request.batch_id,
                        assignment_id=event.request.assignment_id,
                        is_result=False,
                        document=orjson.dumps(_unresolved(event, record)),
                    )

    def _open_index(self) -> ResultIndex:
        if self._index is None:
            names = tuple(topic.name for topic in self._topics)
            self._index = ResultIndex(self._new_store(), names)
        return self._index

    def _close_index(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None


def store_in(folder: Path) -> Store:
    """An empty store in a folder; what another process left there is deleted."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return RocksStore(folder, what="the index of results", cache_mb=CACHE_MB)


def _unresolved(event: CJBatchUnresolved, record: LogRecord) -> Document:
    return {
        "state": "unresolved",
        "since": instant(record.appended_at_ms),
        "unresolved": {
            "scope_key": event.scope_key,
            "missing": list(event.missing),
            "at": str(record.at),
        },
    }


def _page_of(run: "Run", items: list[Document], start: int, size: int) -> Document:
    return {
        "batch_id": run.opened.batch_id,
        "run_id": run.opened.run_id,
        "items": items[start : start + size],
        "total": len(items),
    }


def _chunks(records: Iterator[LogRecord]) -> Iterator[list[LogRecord]]:
    chunk = list[LogRecord]()
    for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _positions_after(records: list[LogRecord]) -> dict[Partition, int]:
    return {Partition(at.topic, at.partition): at.offset + 1 for at in (one.at for one in records)}
