"""What pages read from the log beside the API's routes: parked requests, dead letters, ids, the flow; in threads."""

import asyncio
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TypeVar

import orjson

from processors.dead_letters.open_letters import DeadLetter, read_dead_letter
from processors.kafka.records import LogRecord, log_record_of
from processors.log.reader import LogReader
from processors.log.record_lookup import messages_containing, records_at
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, coordinates_from
from schemas.errors import BadRecord
from schemas.events import CJAssessmentRequested, CJBatchPrepared, CJBatchUnresolved
from schemas.topics import Topic
from tools.api.console.flow_reader import flow
from tools.dlq import Filters, ListedLetters, RedriveReport, list_letters, redrive
from tools.parked import Parked, read_parked_records

THREADS = 2  # the join and the other routes need CPU time, too
MAX_ATTEMPTS = 5  # of re-drives of one record, as the command's default
T = TypeVar("T")


class LogViews:
    """Reads the log for pages; every method raises Unreachable and Discrepancy."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._threads = ThreadPoolExecutor(THREADS, "console")

    async def parked(self) -> list[Parked]:
        """The waiting requests, oldest first."""
        return await self._run(
            lambda: read_parked_records(self._settings, _now_ms()).parked(_now_ms())
        )

    async def letters(self, topic: str | None, filters: Filters, *, closed: bool) -> ListedLetters:
        """The dead letters that the filters select, oldest first."""
        return await self._run(lambda: list_letters(self._settings, topic, filters, closed=closed))

    async def letter(self, at: str) -> tuple[DeadLetter, str | None, bytes | None] | None:
        """The dead letter at these coordinates, where it went, and its value; None if there is none."""
        topics = self._settings.topics
        coordinates = self._known(at, topics.requests_dlq, topics.uploads_dlq)
        if coordinates is None:
            return None
        return await self._run(lambda: read_dead_letter(self._settings, coordinates))

    def decoded(self, value: bytes) -> tuple[str, str]:
        """The name of the event that a value is, and its fields as JSON; if it is none, nothing and the reason."""
        try:
            event = self._codec.decode(value)
        except BadRecord as fault:
            return "", str(fault)
        document = orjson.dumps(asdict(event), default=str, option=orjson.OPT_INDENT_2)
        return type(event).__name__, document.decode()

    async def redrive(self, topic: str | None, filters: Filters, *, yes: bool) -> RedriveReport:
        """Re-drive the selected open dead letters; without `yes`, only decide on them. Raises Fenced, too."""
        return await self._run(
            lambda: redrive(self._settings, topic, filters, max_attempts=MAX_ATTEMPTS, yes=yes)
        )

    async def batch_ids_of(self, wanted: str) -> list[str]:
        """The batch ids of the requests and outcomes with this event id or at these coordinates."""
        return await self._run(lambda: self._batch_ids_of(wanted))

    def flow(self) -> Generator[bytes, None, None]:
        """What happens in the log from now on, as server-sent events; blocks."""
        return flow(self._settings, self._codec)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _batch_ids_of(self, wanted: str) -> list[str]:
        topics = (self._settings.topics.requests, *self._settings.topics.outcomes)
        if at := self._known(wanted, *topics):
            records = records_at(self._settings, [at])
            found = [self._batch_id_of(record, None) for record in records]
        else:
            with LogReader(self._settings, self._settings.partitions_of(*topics)) as log:
                ranges = log.offset_ranges()
            messages = messages_containing(self._settings, ranges, wanted.encode())
            found = [self._batch_id_of(log_record_of(one), wanted) for one in messages]
        return sorted({batch_id for batch_id in found if batch_id})

    def _known(self, text: str, *topics: Topic) -> Coordinates | None:
        """The coordinates that a text is, if they are in a partition of these topics."""
        try:
            at = coordinates_from(text)
        except BadRecord:
            return None
        partitions = self._settings.partitions_of(*topics)
        return at if Partition(at.topic, at.partition) in partitions else None

    def _batch_id_of(self, record: LogRecord, event_id: str | None) -> str | None:
        """The batch id of a request or an outcome; None if its event has another id than the one that is given."""
        try:
            event = self._codec.decode(record.value)
        except BadRecord:
            is_wanted = event_id is None and record.key is not None
            return (record.key or b"").decode(errors="replace") if is_wanted else None
        if event_id is not None and getattr(event, "event_id", None) != event_id:
            return None
        match event:
            case CJAssessmentRequested():
                return event.batch_id
            case CJBatchPrepared() | CJBatchUnresolved():
                return event.request.batch_id
        return None

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
