"""The consumer of the fold: Faust's, but it reads committed records only and tracks the offsets itself.

Faust acknowledges an event even if its agent crashed or was cancelled. It takes the gaps that transaction markers
and aborted records leave for records that are still to come. Its seek at the end of a rebalance may fail, be
overtaken or have no effect. So nothing here relies on these (the upload topics are declared `acks=False`): an offset
is committed once `mark_processed` was called for every record below it, and one rule says what is read:

A fetch starts where the last fetch of its partition ended. If that position is unknown or lost, the partition is
first sought to its committed offset, in the same step as the fetch. aiokafka's own position is never relied upon.

What a fetch returns of one upload partition is delivered as one event with all its records, a chunk: an event costs
Faust some hundred microseconds.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import aiokafka
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from faust.exceptions import ConsumerNotStarted
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message
from faust.types.transports import TransportT

from processors.fold.offset_tracker import OffsetTracker
from processors.fold.patient_start import start_when_reachable
from processors.kafka.bounded_wait import Repeats
from processors.kafka.records import UNREADABLE_HEADERS, LogRecord
from processors.log.reader import read_from
from processors.settings import Settings
from schemas.coordinates import Partition

log = logging.getLogger("cjstream.faust")


@dataclass(slots=True)
class Chunk:
    """Records of one partition in log order, and how many of them are processed."""

    records: Sequence[aiokafka.ConsumerRecord]
    processed: int = 0

    @property
    def unprocessed(self) -> Sequence[aiokafka.ConsumerRecord]:
        """The records that are not processed."""
        return self.records[self.processed :]

    @property
    def offset(self) -> int:
        """The offset of the first record that is not processed."""
        return cast(int, self.records[self.processed].offset)


class TrackedConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread; its fetches start at the tracker's positions."""

    def __init__(
        self, consumer: "TrackedConsumer", tracker: OffsetTracker[TP], **kwargs: Any
    ) -> None:
        super().__init__(consumer, **kwargs)
        self._tracker = tracker
        # a rebalance abandons a fetch, which continues: the next fetch waits for its end
        self._fetching = asyncio.Lock()

    async def on_start(self) -> None:
        """Connect with a broker."""
        await start_when_reachable(self._start, cast(Any, self.consumer.app).settings)

    async def _start(self) -> None:
        try:
            await super().on_start()
        except KafkaConnectionError:
            if self._consumer is not None:
                await self._consumer.stop()
            raise

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        # Faust reads committed records only if `in_transaction` is set: set it for this one call
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
        active = set(active_partitions)  # copy at once: the main thread changes it
        try:
            # with a timeout: this thread serves two calls at a time, and the abandoned fetch is one of them
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
        starts = await self._seek_to_positions(consumer, sources)
        readable = (active - sources) | starts.keys()
        if not readable:  # an empty set would mean all partitions
            return {}
        before = {
            tp: position for tp in readable if (position := _position(consumer, tp)) is not None
        }
        try:
            records = dict(await super()._fetch_records(consumer, readable, seconds, max_records))
        except UnicodeDecodeError:
            records = dict(await self._read_with_librdkafka(consumer, before))
        # No await since the records were taken: nothing has moved the positions in between.
        for tp, start in starts.items():
            end = _position(consumer, tp)
            fetched = records.pop(tp, [])
            offsets = [record.offset for record in fetched[:1]]
            if end is not None and self._tracker.fetched(tp, start, offsets, end) and fetched:
                records[tp] = [_as_one_record(fetched)]
        return records

    async def _read_with_librdkafka(
        self, consumer: aiokafka.AIOKafkaConsumer, starts: Mapping[TP, int]
    ) -> RecordMap:
        """One fetch with the other client: aiokafka cannot read past a header name that is not UTF-8."""
        failed_at = {tp: _position(consumer, tp) for tp in starts}
        settings: Settings = cast(Any, self.app).settings
        read, ends = await asyncio.to_thread(
            read_from, settings, {Partition(*tp): start for tp, start in starts.items()}
        )
        records: dict[TP, list[Any]] = {}
        for record in read:
            tp = TP(record.at.topic, record.at.partition)
            records.setdefault(tp, []).append(_consumer_record(record))
        unreadable = [str(record.at) for record in read if UNREADABLE_HEADERS in record.headers]
        log.warning(
            "header names are not UTF-8: read with librdkafka", extra={"first": unreadable[:1]}
        )
        for tp in starts:
            if tp in consumer.assignment() and _position(consumer, tp) == failed_at[tp]:
                consumer.seek(tp, ends[Partition(*tp)])
            else:  # a rebalance or a recovery has moved it meanwhile
                records.pop(tp, None)
        return records

    async def _seek_to_positions(
        self, consumer: aiokafka.AIOKafkaConsumer, sources: set[TP]
    ) -> dict[TP, int]:
        """Seek partitions to their fetch positions; returns the position of each one that can be fetched."""
        try:
            if lost := self._tracker.without_position(sources):
                for tp, committed in (await _committed(consumer, lost)).items():
                    cast(TrackedConsumer, self.consumer).start_at(tp, committed)
        except KafkaError as fault:  # the next fetch tries again
            log.info("committed offsets are not available", extra={"fault": type(fault).__name__})
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
        """Log the crash; the library would print it."""
        log.error("consumer thread crashed", extra={"fault": msg.format(*fmt)}, exc_info=True)


async def _repeated_in_time(
    request: Callable[[], Awaitable[Mapping[TP, int]]],
) -> Mapping[TP, int]:
    """The answer to a request that is repeated whenever its time is up."""
    repeats = Repeats(tolerated=2)
    while True:
        try:
            return await request()
        except KafkaTimeoutError as fault:
            level = repeats.next_level()
            log.log(level, "ends of the changelog are not known yet", extra={"reason": str(fault)})


async def _committed(consumer: aiokafka.AIOKafkaConsumer, partitions: list[TP]) -> Mapping[TP, int]:
    """The committed offsets; the start of the log if nothing was committed yet."""
    offsets = {tp: await consumer.committed(tp) for tp in partitions}
    uncommitted = [tp for tp, committed in offsets.items() if committed is None]
    return {**offsets, **await consumer.beginning_offsets(uncommitted)}


def _as_one_record(records: Sequence[aiokafka.ConsumerRecord]) -> aiokafka.ConsumerRecord:
    """A chunk as the value of one record, as Faust takes it."""
    return replace(records[0], key=None, value=Chunk(records), headers=())


def _consumer_record(record: LogRecord) -> aiokafka.ConsumerRecord:
    at, key, value = record.at, record.key, record.value
    sizes = (-1 if part is None else len(part) for part in (key, value))
    return aiokafka.ConsumerRecord(
        at.topic,
        at.partition,
        at.offset,
        record.appended_at_ms,
        1,
        key,
        value,
        None,
        *sizes,
        record.headers,
    )


def _position(consumer: aiokafka.AIOKafkaConsumer, tp: TP) -> int | None:
    subscription = consumer._subscription.subscription  # noqa: SLF001 (the public method waits)
    assignment = subscription and subscription.assignment
    state = assignment and assignment.state_value(tp)
    return cast(int, state.position) if state and state.has_valid_position else None


class PatientProducer(driver.Producer):
    """Faust's producer; its start waits for a broker."""

    async def on_start(self) -> None:
        """Connect with a broker."""
        await start_when_reachable(self._start, cast(Any, self.app).settings)

    async def _start(self) -> None:
        try:
            await super().on_start()
        except KafkaConnectionError:
            await super().on_stop()
            raise


class TrackedConsumer(driver.Consumer):
    """Faust's consumer; it commits only offsets below which every record is processed."""

    def __init__(
        self, transport: TransportT, callback: Callable[[Message], Any], *args: Any, **kwargs: Any
    ) -> None:
        self._tracker = OffsetTracker[TP]()
        self._deliver = callback
        super().__init__(transport, self._track_and_deliver, *args, **kwargs)

    def _new_consumer_thread(self) -> TrackedConsumerThread:
        return TrackedConsumerThread(self, self._tracker, loop=self.loop, beacon=self.beacon)

    def _track_and_deliver(self, message: Message) -> Any:
        # Not a coroutine function: a delivery that is cancelled before its first step counts as one, too.
        self._tracker.delivered(message.tp, message.offset, message)
        return self._deliver(message)

    def start_at(self, tp: TP, committed: int) -> None:
        """Read a partition from its committed offset."""
        self._tracker.start_at(tp, committed)
        self._committed_offset[tp] = committed

    def mark_processed(self, message: Message, count: int) -> None:
        """Note that the effects of the next `count` records of a chunk are durable.

        Records that were delivered again since stay unprocessed.
        """
        chunk = cast(Chunk, message.value)
        offset = chunk.offset
        chunk.processed += count
        if chunk.processed < len(chunk.records):
            self._tracker.partly_processed(message.tp, offset, message, chunk.offset)
        else:
            self._tracker.processed(message.tp, offset, message)

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 (Faust's name)
    ) -> AsyncIterator[tuple[TP, Message]]:
        """Deliver one fetch, also records that Faust has read before and would drop."""
        async for tp, message in super().getmany(timeout):
            if not self._is_changelog_tp(tp):
                self._read_offset.pop(tp, None)
            yield tp, message

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """The log starts of the changelog's partitions; repeated while brokers are away."""
        return await _repeated_in_time(partial(super().earliest_offsets, *partitions))

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """The ends of the changelog's partitions; repeated while brokers are away."""
        return await _repeated_in_time(partial(super().highwaters, *partitions))

    async def perform_seek(self) -> None:
        """Make the next fetch read again everything that is not processed; this cannot fail."""
        self._tracker.reset()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the positions of the assignment that ends."""
        self._tracker.reset()
        await super().on_partitions_revoked(revoked)

    def processed_positions(self, topics: Collection[str]) -> dict[Partition, int]:
        """The offset of each assigned partition below which every record of these topics is processed; from any thread.

        For an assigned partition that is not being fetched it is the committed offset.
        """
        with suppress(ConsumerNotStarted):
            assigned = [tp for tp in self.assignment() if tp.topic in topics]
            ends = {tp: self._new_offset(tp) for tp in assigned}
            return {
                Partition(*tp): (self._committed_offset.get(tp) or 0) if end is None else end
                for tp, end in ends.items()
            }
        return {}

    def fetch_positions(self, topics: Collection[str]) -> dict[Partition, int]:
        """The position up to which each partition of these topics was fetched; unknown ones are missing."""
        tps = [tp for tp in self._tracker.partitions() if tp.topic in topics]
        return {Partition(*tp): end for tp, end in self._tracker.fetch_positions(tps).items()}

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        if not committed:  # Faust has noted them nevertheless, and would not commit them again
            for tp in offsets:
                self._committed_offset.pop(tp, None)
        return committed

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        known = self._tracker.partitions()
        return (tp for tp in known if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._tracker.committable(tp)
