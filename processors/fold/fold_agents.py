"""The fold agents: the upload topics into one Faust table, whose changelog is the published view.

An upload is done, and its offset may be committed, once the row that it changed is acknowledged by
the changelog, or its dead letter by the broker. Nothing else moves an offset: an event whose agent
failed or was cancelled is read again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import faust
from faust.types import EventT, FutureMessage, Message, StreamT

from processors.fold.tracked_consumer import TrackedConsumer
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord, Malformed, StoreFailed
from schemas.events import AssignmentContext
from tables.context import fold
from tables.upload_record import UploadRecord, UploadTopics, read_upload

Headers = Sequence[tuple[str, bytes | None]]
DeadLetter = Callable[[UploadRecord, Malformed, Headers], Awaitable[None]]
Fail = Callable[[BaseException], None]
MIB = 1024 * 1024


class ContextTable(faust.Table[bytes, bytes]):
    """The Faust table, telling which of its rows the changelog has yet to acknowledge."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent: list[FutureMessage] = []

    def send_changelog(self, *args: Any, **kwargs: Any) -> FutureMessage:
        """Send one row; `taken` gives its future."""
        future = super().send_changelog(*args, **kwargs)
        self._sent.append(future)
        return future

    def unacknowledged_rows(self) -> list[FutureMessage]:
        """The rows sent since the last call."""
        sent, self._sent = self._sent, []
        return sent


class TableRows:
    """The Faust table as the fold wants it, for one event of one partition."""

    def __init__(self, table: ContextTable, codec: Codec) -> None:
        self._table = table
        self._codec = codec

    def get(self, scope_key: str, /) -> AssignmentContext | None:
        """The row of one scope; one that cannot be read counts as none until it is re-asserted."""
        with _disk():
            row = self._table.get(scope_key.encode())
        try:
            return None if row is None else self._codec.decode_as(AssignmentContext, row)
        except BadRecord:
            return None

    def __setitem__(self, scope_key: str, context: AssignmentContext, /) -> None:
        """Put the row of one scope, and send it to the changelog."""
        with _disk():
            self._table[scope_key.encode()] = self._codec.encode(context)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except Exception as fault:
        if type(fault) is Exception:  # as rocksdict's are, and nobody else's
            raise StoreFailed("the table", fault) from fault
        raise


def add_folding(
    app: faust.App, settings: Settings, codec: Codec, dead_letter: DeadLetter, fatal: Fail
) -> ContextTable:
    """Add the table and an agent per upload topic.

    `dead_letter` returns when the broker has acknowledged. `fatal` is to end the process; the event
    it was called for stays uncommitted whatever it does.
    """
    catalogue = settings.topics
    changelog = app.topic(
        catalogue.context.name,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        partitions=settings.partitions,
        compacting=True,
        acks=False,
        internal=True,
        allow_empty=True,
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
    topics = UploadTopics({topic.name: topic for topic in catalogue.uploads}, settings.partitions)
    folder = UploadFoldAgent(app, table, codec, topics, dead_letter, fatal)
    for topic in catalogue.uploads:
        source = app.topic(
            topic.name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            acks=False,  # the consumer's own books are kept instead
            allow_empty=True,
        )
        app.agent(source, name=f"fold-{topic.name}")(folder.fold_stream)
    return table


def _store_options() -> dict[str, Any]:
    return {  # Faust takes keys out of it, and its defaults are a 2 GiB cache per partition
        "driver": "rocksdict",
        "block_cache_size": 8 * MIB,
        "write_buffer_size": 4 * MIB,
        "max_open_files": 200,
        "bloom_filter_size": 10,
    }


class UploadFoldAgent:
    """Folds one upload after the other, each to its end."""

    def __init__(
        self,
        app: faust.App,
        table: ContextTable,
        codec: Codec,
        topics: UploadTopics,
        dead_letter: DeadLetter,
        fatal: Fail,
    ) -> None:
        self._app = app
        self._table = table
        self._rows = TableRows(table, codec)
        self._codec = codec
        self._topics = topics
        self._dead_letter = dead_letter
        self._fatal = fatal

    async def fold_stream(self, stream: StreamT[bytes]) -> None:
        """Fold a stream of uploads until the app stops."""
        async for event in stream.events():
            try:
                await self._fold(event)
            except Exception as fault:  # noqa: BLE001 (going on would skip the upload)
                self._fatal(fault)
                await asyncio.Event().wait()

    async def _fold(self, event: EventT[Any]) -> None:
        record = _record(event.message)
        try:
            upload = read_upload(record, self._codec, self._topics)
        except Malformed as fault:
            await self._dead_letter(record, fault, _headers(event.message))
            self._done(event.message)
            return
        self._table.unacknowledged_rows()
        fold(self._rows, upload, record.at, record.appended_at_ms)
        self._done_after(event.message, self._table.unacknowledged_rows())

    def _done_after(self, message: Message, sent: list[FutureMessage]) -> None:
        if not sent:
            self._done(message)
        for row in sent:  # one upload changes one row
            row.add_done_callback(lambda future: self._acknowledged(message, future))

    def _acknowledged(self, message: Message, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        fault = future.exception()
        if fault is None:
            self._done(message)
        else:
            self._fatal(fault)

    def _done(self, message: Message) -> None:
        cast(TrackedConsumer, self._app.consumer).mark_processed(message)


def _headers(message: Message) -> Headers:
    headers = message.headers or ()
    return tuple(headers.items()) if isinstance(headers, Mapping) else tuple(headers)


def _record(message: Message) -> UploadRecord:
    return UploadRecord(
        at=Coordinates(message.topic, message.partition, message.offset),
        key=message.key,
        value=message.value,
        appended_at_ms=round(message.timestamp * 1000),
    )
