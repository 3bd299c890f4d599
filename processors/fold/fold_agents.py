"""The fold agents: they fold the upload topics into one Faust table, whose changelog is the published view.

An upload is processed, and its offset may be committed, once the changelog has acknowledged the row that it
changed, or the broker its dead letter. Nothing else moves an offset: a chunk whose agent failed or was
cancelled is read again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import faust
from faust.types import TP, EventT, Message, StreamT

from processors.fold.changelog_producer import ChangelogProducer
from processors.fold.chunk_fold import ChunkFold
from processors.fold.context_table import ContextTable, PartitionLost
from processors.fold.tracked_consumer import Chunk, TrackedConsumer
from processors.kafka.records import Headers
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import Malformed
from tables.replica import ContextReplica
from tables.upload_record import UploadRecord

PutDeadLetter = Callable[[UploadRecord, Malformed, Headers], Awaitable[None]]
Fail = Callable[[BaseException], None]
RestAfter = Callable[[float], Awaitable[None]]  # work that took so many seconds
HELD_RETRY_S = 1.0
# Per upload topic; each has up to FETCHED_RECORDS records. A partition whose chunk finds four of them waiting is not
# fetched until two are left.
WAITING_CHUNKS = 5
RAW_RECORDS: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
    "acks": False,  # TrackedConsumer tracks the offsets instead
    "allow_empty": True,
}


def add_folding(
    app: faust.App,
    settings: Settings,
    codec: Codec,
    replica: ContextReplica,
    put_dead_letter: PutDeadLetter,
    fail: Fail,
    rest_after: RestAfter,
) -> ContextTable:
    """Add the table and one agent per upload topic.

    `put_dead_letter` returns when the broker has acknowledged. `fail` must end the process; the chunk for which it
    was called stays uncommitted in any case. An agent awaits `rest_after` between two chunks.
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
        ChangelogProducer(settings),
        name="context",
        key_type=bytes,
        value_type=bytes,
        partitions=settings.partitions,
        changelog_topic=changelog,
        beacon=app.tables.beacon,
    )
    app.tables.add(table)
    agent = UploadFoldAgent(app, table, codec, replica, put_dead_letter, fail, rest_after)
    for topic in catalogue.uploads:
        source = app.topic(topic.name, **RAW_RECORDS)
        source.maxsize = WAITING_CHUNKS  # Faust ignores this argument of `topic`
        app.agent(source, name=f"fold-{topic.name}")(agent.fold_stream)
    return table


class UploadFoldAgent:
    """Folds one chunk of uploads after the other.

    An upload of a later release stops its partition alone: its chunks are held, uncommitted, until the upload can be
    read or is set aside, or the partition is assigned anew.
    """

    def __init__(
        self,
        app: faust.App,
        table: ContextTable,
        codec: Codec,
        replica: ContextReplica,
        put_dead_letter: PutDeadLetter,
        fail: Fail,
        rest_after: RestAfter,
    ) -> None:
        self._rest_after = rest_after
        self._app = app
        self._table = table
        self._chunk_fold = ChunkFold(table, codec, replica)
        self._put_dead_letter = put_dead_letter
        self._fail = fail
        self._held: dict[TP, list[EventT[Chunk]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def fold_stream(self, stream: StreamT[Chunk]) -> None:
        """Fold a stream of chunks until the app stops."""
        try:
            async for event in stream.events():
                began_s = time.monotonic()
                await self._fold_or_hold(event)
                await self._rest_after(time.monotonic() - began_s)
        except Exception as fault:  # noqa: BLE001 (continuing would skip the uploads)
            self._fail(fault)
            await asyncio.Event().wait()
        finally:
            for task in self._tasks:
                task.cancel()

    async def _fold_or_hold(self, event: EventT[Chunk]) -> None:
        tp = TP(event.message.topic, event.message.partition)
        if tp in self._held:
            self._held[tp].append(event)
        elif not await self._fold(event.message):
            self._held[tp] = [event]
            self._app.consumer.pause_partitions({tp})
            task = asyncio.create_task(self._fold_held(tp))
            self._tasks.add(task)
            task.add_done_callback(self._held_task_done)

    async def _fold_held(self, tp: TP) -> None:
        generation = self._app.consumer_generation_id
        held = self._held[tp]
        while held and generation == self._app.consumer_generation_id:
            if await self._fold(held[0].message):
                held.pop(0)
            else:
                await asyncio.sleep(HELD_RETRY_S)
        del self._held[tp]  # after a rebalance its chunks are read again from the committed offset
        if generation == self._app.consumer_generation_id:
            self._app.consumer.resume_partitions({tp})

    def _held_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            self._fail(fault)

    async def _fold(self, message: Message) -> bool:
        """Fold the unprocessed records of a chunk; False if one of them stops its partition."""
        chunk = cast(Chunk, message.value)
        records = chunk.unprocessed
        try:
            folded = await self._table.in_thread(
                self._chunk_fold.fold, records, message.generation_id
            )
        except PartitionLost:  # its next owner reads the chunk again
            return True
        done = 0
        for refused in folded.refused:  # what lies between them is published
            self._mark_processed(message, refused.number - done)
            await self._put_dead_letter(refused.record, refused.fault, refused.headers)
            self._mark_processed(message, 1)
            done = refused.number + 1
        self._mark_processed(message, folded.count - done)
        return folded.count == len(records)

    def _mark_processed(self, message: Message, count: int) -> None:
        if count:
            cast(TrackedConsumer, self._app.consumer).mark_processed(message, count)
