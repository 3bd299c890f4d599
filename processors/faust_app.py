"""The Faust app: its settings, and a consumer that commits what is done and nothing else.

Building an app connects to nothing and starts no thread.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from typing import Any, cast

import aiokafka
import faust
from faust.exceptions import ConsumerNotStarted
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, Message
from faust.types.transports import ConsumerT, ProducerT, TransportT
from yarl import URL

from processors.settings import Settings
from schemas.partitioner import partition_for
from schemas.topics import MAX_OUTCOME_BYTES
from tables.replica import Partition

log = logging.getLogger("cjstream.faust")
SEND_S = 600  # how long a row is sent again before the worker gives up
LOUD = {
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "processors": logging.WARNING,  # Faust names a subclass's logger after its module
    "aiokafka": logging.CRITICAL,
}
FETCHED_RECORDS = 2000
BUFFERED_RECORDS = 4096


class Fetched(dict[Any, list[Any]]):
    """Records by partition, and where the fetch left each partition's position.

    The position is past markers and aborted records, too, which are no records.
    """

    def __init__(
        self, records: RecordMap, starts: Mapping[TP, int], positions: Mapping[TP, int]
    ) -> None:
        super().__init__(records)
        self.starts = starts  # the positions before
        self.positions = positions


class CommittedReader(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, reading committed records only."""

    _fetching: asyncio.Lock | None = None

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        # Faust offers the isolation level with its `exactly_once` alone: take it for this one call
        consumer = cast(DoneConsumer, self.consumer)
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
        # One at a time: a rebalance abandons a fetch, which may yet take records that reach nobody
        if self._fetching is None:
            self._fetching = asyncio.Lock()
        async with self._fetching:
            starts = self._positions(consumer)
            records = await super()._fetch_records(
                consumer, active_partitions, timeout, max_records
            )
            # No await since the records were taken: nothing has moved the positions in between.
            return Fetched(records, starts, self._positions(consumer))

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the committed offsets; where there is none to the log's start: aiokafka stays where it is."""
        committed = await super().seek_to_committed()
        tables = self.consumer.app.tables.changelog_topics
        unsought = [tp for tp, at in committed.items() if not at and tp.topic not in tables]
        if not unsought:
            return committed
        return {**committed, **await self.call_thread(self._seek_to_starts, unsought)}

    async def _seek_to_starts(self, partitions: list[Any]) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        starts: Mapping[TP, int] = await consumer.beginning_offsets(partitions)
        for tp, start in starts.items():
            consumer.seek(tp, start)
        return starts

    def _positions(self, consumer: aiokafka.AIOKafkaConsumer) -> dict[TP, int]:
        subscription = consumer._subscription.subscription  # noqa: SLF001 (its public twin waits)
        assignment = subscription and subscription.assignment
        if not assignment or not assignment.active:
            return {}
        states = {tp: assignment.state_value(tp) for tp in assignment.tps}
        return {
            TP(tp.topic, tp.partition): state.position
            for tp, state in states.items()
            if state is not None and state.has_valid_position
        }

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Log it; the library prints it."""
        log.error("consumer thread crashed", extra={"fault": msg.format(*fmt)}, exc_info=True)


class DoneConsumer(driver.Consumer):
    """Faust's consumer with other books: an offset is committed once `done` was said of it.

    Faust acknowledges an event also when its agent crashed or was cancelled, and takes the holes
    that transaction markers and aborted records leave for records still to come. So its books are
    not kept (the upload topics are declared `acks=False`), but these two:

    - `_open`: every record handed to the agents and not done yet, entered before it is handed on.
    - `_reached`: up to which position every record has been handed on. It moves after a fetch was
      handed on whole, to the position that the fetch left.

    The invariant: every record below an offset that is committed is done, or was never to be read
    (a marker, aborted, compacted away). The lowest open offset keeps it, because a partition's
    records are handed on in log order; with nothing open `_reached` keeps it. A fetch that was cut
    short leaves its partitions `_cut`, and nothing of them is committed until the next seek back to
    the committed offset, which starts the books anew and brings every record again that was open.
    Nor is anything committed between a seek that failed (Faust logs it and goes on) and one that
    did not.
    """

    def __init__(self, transport: TransportT, callback: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(transport, self._handed_on, *args, **kwargs)
        self._deliver = callback
        self._open: dict[TP, dict[int, Message]] = {}
        self._reached: dict[TP, int] = {}
        self._cut: set[TP] = set()
        self._seeks = 0
        self._is_sought = False
        self._sought: dict[TP, int] = {}  # where the last seek left each partition
        self._handing: set[TP] = set()
        self._fetched = Fetched({}, {}, {})

    def _new_consumer_thread(self) -> CommittedReader:
        return CommittedReader(self, loop=self.loop, beacon=self.beacon)

    def _handed_on(self, message: Message) -> Any:
        # No coroutine: what is cancelled before its first step is entered none the less.
        if not self._is_changelog_tp(message.tp):
            self._open.setdefault(message.tp, {})[message.offset] = message
        return self._deliver(message)

    def done(self, message: Message) -> None:
        """The effects of a record are durable; a record that was handed out anew stays open."""
        open_here = self._open.get(message.tp, {})
        if open_here.get(message.offset) is message:
            del open_here[message.offset]

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 (Faust's name)
    ) -> RecordMap:
        self._cut |= self._handing  # the fetch before was abandoned half-way
        fetched = await super()._getmany(active_partitions, timeout)
        self._fetched = fetched if isinstance(fetched, Fetched) else Fetched(fetched, {}, {})
        if skipped := self._skipped(self._fetched):
            log.warning(
                "an abandoned fetch took records: they are read again", extra={"at": skipped}
            )
            await self._seek_again()
            self._fetched = Fetched({}, {}, {})
            return self._fetched
        self._handing = set(fetched)
        return fetched

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 (Faust's name)
    ) -> AsyncIterator[tuple[TP, Message]]:
        """Hand on one fetch, then move up to the positions that it left; make up for a seek that failed."""
        seeks = self._seeks
        self._fetched = Fetched({}, {}, {})
        handed: Counter[TP] = Counter()
        async for tp, message in super().getmany(timeout):
            handed[tp] += 1
            yield tp, message
        cut = {tp for tp, records in self._fetched.items() if handed[tp] < len(records)}
        self._handing = set()
        if seeks == self._seeks:
            self._cut |= cut
            reached = self._fetched.positions.items()
            self._reached.update({tp: end for tp, end in reached if tp not in self._cut})
        else:  # the seek brings again what was dropped whole, a rest may lie on either side of it
            self._cut |= {tp for tp in cut if handed[tp]}
        if not self._is_sought and self.flow_active:
            await self._seek_again()

    async def _seek_again(self) -> None:
        try:
            await self.perform_seek()
        except Exception as fault:  # noqa: BLE001 (of any of aiokafka's layers; the next fetch tries again)
            log.info("seek fails", extra={"fault": type(fault).__name__})

    def _skipped(self, fetched: Fetched) -> list[str]:
        """Where a fetch began past the end of the one before: what lies between was handed to nobody."""
        left = {**self._sought, **self._reached}
        return [
            f"{tp.topic}/{tp.partition}@{left[tp]}"
            for tp, start in fetched.starts.items()
            if tp in left and start > left[tp] and not self._is_changelog_tp(tp)
        ]

    async def perform_seek(self) -> None:
        """Go back to the committed offsets; every record from there on is handed out anew."""
        self._is_sought = False
        self._forget()
        await super().perform_seek()
        self._forget()  # a fetch from before the seek may have been handed on meanwhile
        self._is_sought = True
        self._sought = {tp: at for tp, at in self._read_offset.items() if at is not None}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what belonged to the assignment that ends."""
        self._forget()
        await super().on_partitions_revoked(revoked)

    def _forget(self) -> None:
        self._seeks += 1
        self._sought = {}
        self._open.clear()
        self._reached.clear()
        self._cut.clear()
        self._handing.clear()

    def done_positions(self, topics: Collection[str]) -> dict[Partition, int]:
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

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        known = [*{**self._reached, **self._open}]
        return (tp for tp in known if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        if not self._is_sought or tp in self._cut or self._is_changelog_tp(tp):
            return None
        open_here = list(
            self._open.get(tp) or ()
        )  # copied at once: the watchdog asks from its thread
        return min(open_here, default=self._reached.get(tp))


class PatientProducer(driver.Producer):
    """Faust's producer, not giving up a changelog row while a broker restarts."""

    def _new_producer(self, transactional_id: str | None = None) -> aiokafka.AIOKafkaProducer:
        producer = super()._new_producer(transactional_id)
        # its own setting would make every single request wait as long
        producer._message_accumulator._batch_ttl = SEND_S  # noqa: SLF001
        return producer


class Transport(driver.Transport):
    """Faust's aiokafka transport with the consumer and the producer above."""

    Consumer = cast(type[ConsumerT], DoneConsumer)
    Producer = cast(type[ProducerT], PatientProducer)


class App(faust.App):
    """A Faust app on the transport above."""

    @property
    def done_consumer(self) -> DoneConsumer | None:
        """The consumer, once there is one; asking for `consumer` would make it."""
        return cast(DoneConsumer | None, self._consumer)

    def _new_transport(self) -> TransportT:
        return Transport(self.conf.broker_consumer, cast(AppT, self))

    def _new_producer_transport(self) -> TransportT:
        return Transport(self.conf.broker_producer, cast(AppT, self))

    def _create_directories(self) -> None:
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        super()._create_directories()


def build_app(settings: Settings) -> App:
    """The Faust app of one worker: its id is the fold's consumer group."""
    for library, level in LOUD.items():  # aiokafka: fifty lines a second while the broker is away
        logging.getLogger(library).setLevel(level)
    app = App(
        settings.fold_group,
        broker=[URL(f"kafka://{host.strip()}") for host in settings.bootstrap_servers.split(",")],
        broker_client_id=f"{settings.topic_prefix}cjstream-{settings.slot or 'worker'}",
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=1,
        broker_rebalance_timeout=settings.session_timeout_s,
        broker_request_timeout=settings.session_timeout_s + 5,  # must exceed the session's
        broker_max_poll_records=FETCHED_RECORDS,
        broker_commit_interval=1,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{settings.fold_group}-{settings.slot}"
        if settings.slot
        else None,
        producer_acks=-1,
        producer_linger=0.01,
        producer_max_request_size=MAX_OUTCOME_BYTES,
        producer_request_timeout=30,
        producer_partitioner=_murmur2,
        processing_guarantee="at_least_once",
        store="rocksdb://",
        datadir=settings.worker_dir / "faust",
        key_serializer="raw",
        value_serializer="raw",
        stream_buffer_maxsize=BUFFERED_RECORDS,
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    app.finalize()
    return app


def _murmur2(key: bytes | None, partitions: list[int], available: list[int]) -> int:
    if key is None:
        raise ValueError("a record without a key belongs in no partition")
    return sorted(partitions)[partition_for(key, len(partitions))]
