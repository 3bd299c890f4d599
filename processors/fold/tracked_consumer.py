"""The consumer of the fold: Faust's, reading committed records only, with books of its own.

Faust acknowledges an event also when its agent crashed or was cancelled, and takes the holes that transaction
markers and aborted records leave for records still to come; its seek at the end of a rebalance may fail, be
overtaken or come to nothing. So none of that is relied upon (the upload topics are declared `acks=False`): an
offset is committed once `done` was said of every record below it, and one rule says what is read:

A fetch starts where the last one left its partition. A partition that has no such place, or has lost it, is
sought to its committed offset first, in the same breath as the fetch; aiokafka's own position counts for nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, cast

import aiokafka
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message
from faust.types.transports import TransportT

from processors.fold.offset_tracker import OffsetTracker
from schemas.coordinates import Partition

log = logging.getLogger("cjstream.faust")


class TrackedConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, whose fetches keep to the places in the books."""

    def __init__(
        self, consumer: "TrackedConsumer", books: OffsetTracker[TP], **kwargs: Any
    ) -> None:
        super().__init__(consumer, **kwargs)
        self._tracker = books
        # a rebalance abandons a fetch, which goes on: the next one waits for its end
        self._fetching = asyncio.Lock()

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        # Faust offers the isolation level with its `exactly_once` alone: take it for this one call
        consumer = cast(TrackedConsumer, self.consumer)
        consumer.in_transaction = True
        try:
            return super()._create_worker_consumer(transport)
        finally:
            consumer.in_transaction = False

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 (Faust's name)
        max_records: int | None = None,
    ) -> RecordMap:
        active = set(active_partitions)  # at once: the main thread changes it
        try:
            # for so long: this thread serves two calls at a time, and the abandoned one is the other
            await asyncio.wait_for(self._fetching.acquire(), timeout)
        except TimeoutError:
            return {}
        try:
            return await self._fetch_from_positions(consumer, active, timeout, max_records)
        finally:
            self._fetching.release()

    async def _fetch_from_positions(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active: set[TP],
        seconds: float | None,
        max_records: int | None,
    ) -> RecordMap:
        if not self.consumer.flow_active:
            return {}
        sources = {tp for tp in active if not self._is_changelog(tp)}
        starts = await self._track(consumer, sources)
        readable = (active - sources) | starts.keys()
        if not readable:  # none would mean all
            return {}
        records = dict(await super()._fetch_records(consumer, readable, seconds, max_records))
        # No await since the records were taken: nothing has moved the positions in between.
        for tp, start in starts.items():
            end = _position(consumer, tp)
            offsets = [record.offset for record in records.get(tp, ())]
            if end is None or not self._tracker.fetched(tp, start, offsets, end):
                records.pop(tp, None)
        return records

    async def _track(self, consumer: aiokafka.AIOKafkaConsumer, sources: set[TP]) -> dict[TP, int]:
        """Bring partitions to their places: those that are there now, and where."""
        try:
            if lost := self._tracker.unplaced(sources):
                for tp, committed in (await _committed(consumer, lost)).items():
                    cast(TrackedConsumer, self.consumer).start_at(tp, committed)
        except KafkaError as fault:  # the next fetch asks again
            log.info("no committed offsets", extra={"fault": type(fault).__name__})
            return {}
        assigned = consumer.assignment()
        starts = self._tracker.fetch_positions(tp for tp in sources if tp in assigned)
        for tp, start in starts.items():
            if _position(consumer, tp) != start:
                consumer.seek(tp, start)
        return starts

    def _is_changelog(self, tp: TP) -> bool:
        return tp.topic in self.app.tables.changelog_topics

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Log it; the library prints it."""
        log.error("consumer thread crashed", extra={"fault": msg.format(*fmt)}, exc_info=True)


async def _committed(consumer: aiokafka.AIOKafkaConsumer, partitions: list[TP]) -> Mapping[TP, int]:
    """The committed offsets; where nothing was committed yet, the log's start."""
    found = {tp: await consumer.committed(tp) for tp in partitions}
    first = [tp for tp, committed in found.items() if committed is None]
    return {**found, **await consumer.beginning_offsets(first)}


def _position(consumer: aiokafka.AIOKafkaConsumer, tp: TP) -> int | None:
    subscription = consumer._subscription.subscription  # noqa: SLF001 (its public twin waits)
    assignment = subscription and subscription.assignment
    state = assignment and assignment.state_value(tp)
    return cast(int, state.position) if state and state.has_valid_position else None


class TrackedConsumer(driver.Consumer):
    """Faust's consumer, committing what is done and nothing else."""

    def __init__(
        self, transport: TransportT, callback: Callable[[Message], Any], *args: Any, **kwargs: Any
    ) -> None:
        self._tracker = OffsetTracker[TP]()
        self._deliver = callback
        super().__init__(transport, self._delivered, *args, **kwargs)

    def _new_consumer_thread(self) -> TrackedConsumerThread:
        return TrackedConsumerThread(self, self._tracker, loop=self.loop, beacon=self.beacon)

    def _delivered(self, message: Message) -> Any:
        # No coroutine: what is cancelled before its first step has been handed on none the less.
        self._tracker.delivered(message.tp, message.offset, message)
        return self._deliver(message)

    def start_at(self, tp: TP, committed: int) -> None:
        """Read a partition from its committed offset."""
        self._tracker.start_at(tp, committed)
        self._committed_offset[tp] = committed

    def mark_processed(self, message: Message) -> None:
        """The effects of a record are durable; a record that was handed out anew stays open."""
        self._tracker.processed(message.tp, message.offset, message)

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 (Faust's name)
    ) -> AsyncIterator[tuple[TP, Message]]:
        """Hand on one fetch, also what Faust has read before and would drop."""
        async for tp, message in super().getmany(timeout):
            if not self._is_changelog_tp(tp):
                self._read_offset.pop(tp, None)
            yield tp, message

    async def perform_seek(self) -> None:
        """Everything that is not done is read anew: by the next fetch, so that this cannot fail."""
        self._tracker.reset()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what belonged to the assignment that ends."""
        self._tracker.reset()
        await super().on_partitions_revoked(revoked)

    def processed_positions(self, topics: Collection[str]) -> dict[Partition, int]:
        """Below which offset every record of these topics is done; from any thread.

        Of an assigned partition that is not fetched from, that is what was committed.
        """
        with suppress(ConsumerNotStarted):
            assigned = [tp for tp in self.assignment() if tp.topic in topics]
            ends = {tp: self._new_offset(tp) for tp in assigned}
            return {
                Partition(*tp): (self._committed_offset.get(tp) or 0) if end is None else end
                for tp, end in ends.items()
            }
        return {}

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        if not committed:  # Faust has noted them all the same, and would not commit them again
            for tp in offsets:
                self._committed_offset.pop(tp, None)
        return committed

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        known = self._tracker.partitions()
        return (tp for tp in known if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._tracker.committable(tp)
