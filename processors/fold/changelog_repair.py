"""Repair of the changelog: compaction must never keep a row that is wrong.

A worker that was frozen, lost its partitions and was thawed still sends the rows that it had
folded: older rows, after the newer rows of the new owner. And anybody who may write the topic can forge a row, which a
fold that recovers its table from there goes on with. So the owner of a changelog partition reads it, from its start at
each new assignment, and compares each row with the replica's. A row that is wrong is written anew, through the Faust
table, or gets a tombstone if no row belongs there.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from faust.types import TP, EventT, Message, StreamT

from processors.fold.bounded_channel import BoundedChannel
from processors.fold.changelog_watch import TICK_S, ChangelogWatch, IsOwnRow, WrongRow
from processors.fold.context_table import ContextTable, PartitionLost
from processors.fold.faust_app import CJStreamApp
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Positions
from tables.changelog_row import Problem, RowChecker
from tables.replica import ContextReplica

log = logging.getLogger("cjstream.changelog_repair")
LOG_EVERY_S = 5.0
MAX_WAITING_ROWS = 100
ACKNOWLEDGED_S = 0.5


class ChangelogRepair:
    """Writes anew, through the Faust table, the rows that the watch finds wrong.

    Start it once the replica has caught up: an older replica cannot judge a row.
    """

    def __init__(
        self,
        app: CJStreamApp,
        settings: Settings,
        codec: Codec,
        replica: ContextReplica,
        table: ContextTable,
        fail: Callable[[BaseException], None],
        rest_s: Callable[[float], float],
    ) -> None:
        self._app = app
        self._topic = settings.topics.context.name
        self._uploads = tuple(topic.name for topic in settings.topics.uploads)
        self._checker = RowChecker(codec, self._uploads, settings.partitions)
        self._replica = replica
        self._table = table
        self._watch = ChangelogWatch(
            settings, self._checker, replica, self._processed, self._own_rows, fail, rest_s
        )
        self._fail = fail
        self._channel = BoundedChannel(app, maxsize=MAX_WAITING_ROWS)
        self._stopping = asyncio.Event()
        self.count = 0  # rows written anew
        self._log = RepairLog()
        app.agent(self._channel, name="repair-changelog")(self._repair_stream)

    async def run(self) -> None:
        """Watch the changelog and repair rows until cancelled or stopped."""
        self._watch.start()
        try:
            while not self._stopping.is_set():
                self._watch.own(self._owned())
                for row in self._watch.wrong_rows():
                    await self._channel.put(self._event(row))
                self._log.write_if_due()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), TICK_S)
        finally:
            await asyncio.to_thread(self._watch.stop)
            self._log.write()

    def stop(self) -> None:
        """Stop `run`."""
        self._stopping.set()

    def _owned(self) -> frozenset[int]:
        """This worker's partitions of the changelog; unchanged while Faust rebalances."""
        actives = self._app.assignor.assigned_actives()
        return frozenset(tp.partition for tp in actives if tp.topic == self._topic)

    def _processed(self) -> Positions:
        consumer = self._app.tracked_consumer
        return {} if consumer is None else consumer.processed_positions(self._uploads)

    def _own_rows(self) -> IsOwnRow:
        changelog = self._table.changelog
        changelog.wait_until_idle(ACKNOWLEDGED_S)  # a row may be read before its acknowledgement
        return lambda partition, offset: changelog.has_published(
            partition, offset, self._app.consumer_generation_id
        )

    def _event(self, row: WrongRow) -> EventT[Problem]:
        # Faust skips an event of an older generation: rows that wait in the channel during a rebalance are not
        # written
        message = Message(
            self._topic,
            row.partition,
            -1,
            timestamp=time.time(),
            timestamp_type=0,
            headers=None,
            key=row.key,
            value=None,
            checksum=None,
            tp=TP(self._topic, row.partition),
            generation_id=self._app.consumer_generation_id,
        )
        return self._app.create_event(row.key, row.problem, {}, message)

    async def _repair_stream(self, stream: StreamT[Problem]) -> None:
        async for event in stream.events():
            try:
                message = event.message
                await self._repair(message.partition, message.key or b"", event.value)
            except Exception as fault:  # noqa: BLE001 (unforeseen: end the process)
                self._fail(fault)
                await asyncio.Event().wait()

    async def _repair(self, partition: int, key: bytes, problem: Problem) -> None:
        recovering = self._app.rebalancing or self._app.in_recovery
        if recovering or partition not in self._owned():
            return
        write = self._publish_tombstone if problem is Problem.MISPLACED else self._write_anew
        try:
            await self._table.in_thread(write, partition, key, self._app.consumer_generation_id)
        except PartitionLost:
            return
        self.count += 1
        self._log.add(partition, key, problem)

    def _publish_tombstone(self, partition: int, key: bytes, generation: int) -> None:
        self._table.publish(partition, {key: None}, generation)

    def _write_anew(self, partition: int, key: bytes, generation: int) -> None:
        known = self._replica.contexts_of([key]).get(key)
        row = None if known is None else self._checker.codec.encode(known)
        self._table.write(partition, {key: row}, generation)


class RepairLog:
    """One line for the repairs of `LOG_EVERY_S`: how many rows of each problem, and one of them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._example = dict[str, object]()
        self._due_at_s = 0.0  # by `time.monotonic()`

    def add(self, partition: int, key: bytes, problem: Problem) -> None:
        """Note the repair of one row."""
        scope_key = key.decode(errors="backslashreplace")
        self._example = {"partition": partition, "scope_key": scope_key, "problem": problem.value}
        self._counts[problem.value] += 1

    def write_if_due(self) -> None:
        """Write the line, if there are repairs and the last line is old enough."""
        if time.monotonic() >= self._due_at_s:
            self.write()

    def write(self) -> None:
        """Write the line, if there are repairs."""
        if self._counts:
            log.warning(
                "changelog rows were wrong: written anew",
                extra={
                    "rows": self._counts.total(),
                    "problems": dict(self._counts),
                    "example": self._example,
                },
            )
            self._counts.clear()
            self._due_at_s = time.monotonic() + LOG_EVERY_S
