"""The fold agents: they fold the upload topics into one Faust table, whose changelog is the published view.

An upload is processed, and its offset may be committed, once the changelog has acknowledged the row that it
changed, or the broker its dead letter. Nothing else moves an offset: an event whose agent failed or was
cancelled is read again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import faust
from faust.types import TP, EventT, FutureMessage, Message, StreamT

from processors.fold.tracked_consumer import TrackedConsumer
from processors.kafka.records import valid_time_ms
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import Malformed, StoreFailed, UnknownSchema
from schemas.events import AssignmentContext, UploadEvent, role_of, scope_key_of
from tables.changelog_row import RowChecker
from tables.context import component_of, fold
from tables.upload_record import UploadRecord, UploadTopics, read_upload, sets_aside

Headers = Sequence[tuple[str, bytes | None]]
PutDeadLetter = Callable[[UploadRecord, Malformed, Headers], Awaitable[None]]
Fail = Callable[[BaseException], None]
MIB = 1024 * 1024
MAX_HEADERS = 100_000  # librdkafka reads none of a record that has more
HELD_RETRY_S = 1.0
RAW_RECORDS: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
    "acks": False,  # TrackedConsumer tracks the offsets instead
    "allow_empty": True,
}


class ContextTable(faust.Table[bytes, bytes]):
    """The Faust table; it keeps the rows that the changelog has yet to acknowledge."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent: list[FutureMessage] = []

    def send_changelog(self, *args: Any, **kwargs: Any) -> FutureMessage:
        """Send one row; `unacknowledged_rows` returns its future."""
        future = super().send_changelog(*args, **kwargs)
        self._sent.append(future)
        return future

    def send_tombstone(self, partition: int, key: bytes) -> None:
        """Send a tombstone to a partition in which no row of this key belongs, whatever the table has."""
        self.send_changelog(partition, key, None, value_serializer="raw")

    def unacknowledged_rows(self) -> list[FutureMessage]:
        """The rows sent since the last call."""
        sent, self._sent = self._sent, []
        return sent


class TableRows:
    """The Faust table as the mapping that `fold` needs, for the event that Faust is processing."""

    def __init__(self, table: ContextTable, checker: RowChecker) -> None:
        self._table = table
        self._checker = checker

    def get(self, scope_key: str, /) -> AssignmentContext | None:
        """What is usable of the row of one scope: anybody may have written it; the repair writes it anew."""
        with _store_errors():
            row = self._table.get(scope_key.encode())
        return self._checker.usable(scope_key, row)

    def __setitem__(self, scope_key: str, context: AssignmentContext, /) -> None:
        """Set the row of one scope, and send it to the changelog."""
        with _store_errors():
            self._table[scope_key.encode()] = self._checker.codec.encode(context)

    def __delitem__(self, scope_key: str, /) -> None:
        """Remove the row of one scope, and send a tombstone to the changelog."""
        with _store_errors():
            del self._table[scope_key.encode()]


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except Exception as fault:
        if type(fault) is Exception:  # only rocksdict raises it
            raise StoreFailed("the table", fault) from fault
        raise


def add_folding(
    app: faust.App,
    settings: Settings,
    codec: Codec,
    topics: UploadTopics,
    put_dead_letter: PutDeadLetter,
    fail: Fail,
) -> ContextTable:
    """Add the table and one agent per upload topic.

    `put_dead_letter` returns when the broker has acknowledged. `fail` must end the process; the event for which it
    was called stays uncommitted in any case.
    """
    catalogue = settings.topics
    changelog = app.topic(
        catalogue.context.name,
        **RAW_RECORDS,
        partitions=settings.partitions,
        compacting=True,
        internal=True,
    )
    table = ContextTable(
        app,
        name="context",
        key_type=bytes,
        value_type=bytes,
        partitions=settings.partitions,
        changelog_topic=changelog,
        beacon=app.tables.beacon,
        options=_store_options(),
    )
    app.tables.add(table)
    agent = UploadFoldAgent(app, table, codec, topics, put_dead_letter, fail)
    for topic in catalogue.uploads:
        source = app.topic(topic.name, **RAW_RECORDS)
        app.agent(source, name=f"fold-{topic.name}")(agent.fold_stream)
    return table


def _store_options() -> dict[str, Any]:
    return {  # Faust removes keys from it; by default it uses a 2 GiB cache per partition
        "driver": "rocksdict",
        "block_cache_size": 8 * MIB,
        "write_buffer_size": 4 * MIB,
        "max_open_files": 200,
        "bloom_filter_size": 10,
    }


class UploadFoldAgent:
    """Folds one upload after the other.

    An upload of a later release stops its partition alone: its events are held, uncommitted, until the upload can be
    read or is set aside, or the partition is assigned anew.
    """

    def __init__(
        self,
        app: faust.App,
        table: ContextTable,
        codec: Codec,
        topics: UploadTopics,
        put_dead_letter: PutDeadLetter,
        fail: Fail,
    ) -> None:
        self._app = app
        self._table = table
        self._rows = TableRows(table, RowChecker(codec, tuple(topics.by_name), topics.partitions))
        self._codec = codec
        self._topics = topics
        self._put_dead_letter = put_dead_letter
        self._fail = fail
        self._held: dict[TP, list[EventT[Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def fold_stream(self, stream: StreamT[bytes]) -> None:
        """Fold a stream of uploads until the app stops."""
        try:
            async for event in stream.events():
                await self._fold_or_hold(event)
        except Exception as fault:  # noqa: BLE001 (continuing would skip the upload)
            self._fail(fault)
            await asyncio.Event().wait()
        finally:
            for task in self._tasks:
                task.cancel()

    async def _fold_or_hold(self, event: EventT[Any]) -> None:
        tp = TP(event.message.topic, event.message.partition)
        if tp in self._held:
            self._held[tp].append(event)
            return
        try:
            await self._fold(event)
        except UnknownSchema:
            self._held[tp] = [event]
            self._app.consumer.pause_partitions({tp})
            # a task in the context of this event: Faust writes rows to the partition of the current event
            task = asyncio.create_task(self._fold_held(tp))
            self._tasks.add(task)
            task.add_done_callback(self._held_task_done)

    async def _fold_held(self, tp: TP) -> None:
        generation = self._app.consumer_generation_id
        held = self._held[tp]
        while held and generation == self._app.consumer_generation_id:
            try:
                await self._fold(held[0])
                held.pop(0)
            except UnknownSchema:
                await asyncio.sleep(HELD_RETRY_S)
        del self._held[tp]  # after a rebalance its events are read again from the committed offset
        if generation == self._app.consumer_generation_id:
            self._app.consumer.resume_partitions({tp})

    def _held_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            self._fail(fault)

    async def _fold(self, event: EventT[Any]) -> None:
        record = _record(event.message)
        if record.sets_aside is not None and record.value is None:
            self._mark_processed(event.message)
            return
        try:
            upload = read_upload(record, self._codec, self._topics)
        except Malformed as fault:
            await self._put_dead_letter(record, fault, _headers(event.message))
            self._mark_processed(event.message)
            return
        self._table.unacknowledged_rows()
        fold(self._rows, upload, record.at, record.appended_at_ms)
        sent = self._table.unacknowledged_rows() or self._send_again(upload, record.at)
        self._mark_processed_after(event.message, sent)

    def _send_again(self, upload: UploadEvent, at: Coordinates) -> list[FutureMessage]:
        """Send the row of an upload that the table has already: a kill may have come before the changelog had it."""
        scope_key = scope_key_of(upload)
        row = self._rows.get(scope_key)
        component = component_of(row, role_of(upload))
        if row is not None and component is not None and component.source == at:
            self._rows[scope_key] = row
        return self._table.unacknowledged_rows()

    def _mark_processed_after(self, message: Message, sent: list[FutureMessage]) -> None:
        if not sent:
            self._mark_processed(message)
        for row in sent:  # one upload changes one row
            row.add_done_callback(lambda future: self._acknowledged(message, future))

    def _acknowledged(self, message: Message, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        fault = future.exception()
        if fault is None:
            self._mark_processed(message)
        else:
            self._fail(fault)

    def _mark_processed(self, message: Message) -> None:
        cast(TrackedConsumer, self._app.consumer).mark_processed(message)


def _headers(message: Message) -> Headers:
    """The headers as librdkafka reads them, with which everything else is read: names end at a zero byte."""
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    if len(pairs) > MAX_HEADERS:
        return ()
    return tuple((name.partition("\0")[0], value) for name, value in pairs)


def _record(message: Message) -> UploadRecord:
    return UploadRecord(
        at=Coordinates(message.topic, message.partition, message.offset),
        key=message.key,
        value=message.value,
        appended_at_ms=valid_time_ms(round(message.timestamp * 1000)),
        sets_aside=sets_aside(_headers(message)),
    )
