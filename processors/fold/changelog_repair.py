"""Repair of the changelog: compaction must never keep a row that a worker wrote after it had lost the partition.

A worker that was frozen, lost its partitions and was thawed still sends the rows that it had
folded: older rows, after the newer rows of the new owner. So the owner of a changelog partition
reads it, from its start at each new assignment, and compares each row with the replica's. A row
that is behind the replica is rewritten, through the Faust table.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

import faust
from faust.types import TP, EventT, Message, RecordMetadata, StreamT

from processors.fold.bounded_channel import BoundedChannel
from processors.fold.changelog_watch import RECORDS, TICK_S, ChangelogWatch
from processors.fold.fold_agents import ContextTable, TableRows
from processors.settings import Settings
from schemas.codec import Codec
from schemas.events import AssignmentContext
from tables.context import merge
from tables.replica import ContextReplica

log = logging.getLogger("cjstream.changelog_repair")


class ChangelogRepair:
    """Rewrites, through the Faust table, the rows that the watch finds behind.

    Start it once the replica has caught up: an older replica cannot judge a row.
    """

    def __init__(
        self,
        app: faust.App,
        settings: Settings,
        codec: Codec,
        replica: ContextReplica,
        table: ContextTable,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._app = app
        self._topic = settings.topics.context.name
        self._codec = codec
        self._replica = replica
        self._table = table
        self._rows = TableRows(table, codec)
        self._watch = ChangelogWatch(settings, codec, replica, fail)
        self._fail = fail
        self._channel = BoundedChannel(app, maxsize=RECORDS)
        self._stopping = asyncio.Event()
        self.count = 0  # rows rewritten
        app.agent(self._channel, name="repair-changelog")(self._repair_stream)

    async def run(self) -> None:
        """Watch the changelog and rewrite rows until cancelled or stopped."""
        self._watch.start()
        try:
            while not self._stopping.is_set():
                self._watch.own(self._owned())
                for partition, key in await asyncio.to_thread(self._watch.behind):
                    await self._channel.put(self._event(partition, key))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), TICK_S)
        finally:
            await asyncio.to_thread(self._watch.stop)

    def stop(self) -> None:
        """Stop `run`."""
        self._stopping.set()

    def _owned(self) -> frozenset[int]:
        """This worker's partitions of the changelog; unchanged while Faust rebalances."""
        actives = self._app.assignor.assigned_actives()
        return frozenset(tp.partition for tp in actives if tp.topic == self._topic)

    def _event(self, partition: int, key: bytes) -> EventT[bytes]:
        # Faust writes a row to the partition of the current event, and skips an event of an older
        # generation: rows that wait in the channel during a rebalance are not written.
        message = Message(
            self._topic,
            partition,
            -1,
            timestamp=time.time(),
            timestamp_type=0,
            headers=None,
            key=key,
            value=None,
            checksum=None,
            tp=TP(self._topic, partition),
            generation_id=self._app.consumer_generation_id,
        )
        return self._app.create_event(key, key, {}, message)

    async def _repair_stream(self, stream: StreamT[bytes]) -> None:
        async for event in stream.events():
            try:
                self._repair(event)
            except Exception as fault:  # noqa: BLE001 (unforeseen: end the process)
                self._fail(fault)
                await asyncio.Event().wait()

    def _repair(self, event: EventT[bytes]) -> None:
        partition, key = event.message.partition, event.message.key
        recovering = self._app.rebalancing or self._app.in_recovery
        if key is None or recovering or partition not in self._owned():
            return
        scope_key = key.decode()
        known = self._replica.context(scope_key)
        if known is None:
            return
        self._table.unacknowledged_rows()
        self._rows[scope_key] = _newest(self._rows.get(scope_key), known)
        self.count += 1
        log.warning(
            "changelog row was behind the replica: rewritten",
            extra={"partition": partition, "scope_key": scope_key},
        )
        for row in self._table.unacknowledged_rows():
            row.add_done_callback(lambda future: self._acknowledged(key, future))

    def _acknowledged(self, key: bytes, future: asyncio.Future[RecordMetadata]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._watch.repaired(key, future.result().offset)


def _newest(row: AssignmentContext | None, known: AssignmentContext) -> AssignmentContext:
    try:
        return known if row is None else merge(row, known)
    except ValueError:  # no row of this topic's partition
        return known
