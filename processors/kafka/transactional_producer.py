"""Transactions of one producer at a time: its transactional id fences, and the newest producer with the id wins.

librdkafka marks every error, and the marks decide: retriable means repeat the same call, abortable means abort,
anything else means that the producer was fenced or that the outcome of its transaction is unknown.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import repeat
from operator import length_hint
from typing import Any, ParamSpec

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock, Repeats
from processors.kafka.clients import log_error, transactional_producer
from processors.kafka.plain_producer import POLL_S, Deliveries, enqueue
from processors.kafka.records import Record, RecordColumns
from processors.kafka.rights import REMEDY
from processors.settings import Settings
from schemas.errors import Aborted, Fenced, Unreachable

P = ParamSpec("P")
FENCED_CODES = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
log = logging.getLogger("cjstream.commit")
SLICE_S = 1.0  # timeout of one call; a timed out call resumes when it is made again
RETRY_S = 0.2
COORDINATOR_CALL_S = 5.0  # of a takeover without a time limit, which logs each call that timed out


class TooLargeError(Aborted):
    """The broker refused a record because of its size, and with it the whole transaction."""


def producer_with_id(
    settings: Settings,
    producer_id: str,
    end_leftovers: Callable[[], None] = lambda: None,
    **overrides: Any,
) -> "TransactionalProducer":
    """A producer with this transactional id; every new one with the id fences the last one."""
    disconnected = threading.Event()

    def on_error(error: KafkaError) -> None:
        log_error(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            disconnected.set()

    return TransactionalProducer(
        lambda: transactional_producer(settings, producer_id, error_cb=on_error, **overrides),
        settings.transaction_timeout_s,
        end_leftovers=end_leftovers,
        disconnected=disconnected,
    )


class TransactionalProducer:
    """Runs one transaction after the other; only one thread at a time may call it, but any thread `stop`."""

    def __init__(
        self,
        new_producer: Callable[[], Producer],
        timeout_s: float,
        clock: Clock = SYSTEM_CLOCK,
        end_leftovers: Callable[[], None] = lambda: None,
        disconnected: threading.Event | None = None,
    ) -> None:
        """end_leftovers: ends transactions of the id that lack their last marker, after each takeover.

        disconnected: set by the producer when no broker was connected: a restarted one may have left some.
        """
        self.timeout_s = timeout_s  # of a transaction, from `begin` on
        self.opened_at: float | None = None  # monotonic seconds, while a transaction is open
        self.new_producer = new_producer
        self._clock = clock
        self._end_leftovers = end_leftovers
        self._disconnected = threading.Event() if disconnected is None else disconnected
        self._producer: Producer | None = None
        self._deadline = 0.0
        self._stopping = threading.Event()

    def open_s(self) -> float:
        """For how long the transaction has been open, 0 if none is; any thread may ask."""
        opened_at = self.opened_at
        return 0.0 if opened_at is None else self._clock.monotonic() - opened_at

    @property
    def is_open(self) -> bool:
        """Whether this producer owns its id, as far as it knows, and was connected ever since it took over."""
        if self._producer is not None and self.opened_at is None:
            with suppress(KafkaException):  # a fatal error is raised by the next call, too
                self._producer.poll(0)  # it may have been disconnected since the last transaction
        return self._producer is not None and not self._disconnected.is_set()

    def take_over(self, seconds: float | None = None) -> None:
        """Fence every other producer with this id, the own old one, too, and end its open transaction.

        Without a time limit it waits for the coordinator until `stop`. Raises Unreachable, or Fenced if the broker
        refuses the new producer.
        """
        self.drop()
        self._disconnected.clear()
        producer = self.new_producer()
        until = None if seconds is None else self._clock.monotonic() + seconds
        initialize = partial(
            producer.init_transactions, COORDINATOR_CALL_S if seconds is None else SLICE_S
        )
        # a new cluster makes the coordinator's topic first
        if self._is_done(initialize, until) and self._is_done(self._end_leftovers, until):
            self._producer = producer

    def _is_done(self, step: Callable[[], None], until: float | None) -> bool:
        """Whether a step of a takeover was done, repeated while brokers do not answer, before `stop`."""
        waits = Repeats(tolerated=2)
        while not self._stopping.is_set():
            try:
                step()
            except (KafkaException, Unreachable) as fault:
                message = str(fault)
                if isinstance(fault, KafkaException):
                    message = f"init_transactions: {_text_of(fault.args[0])}"
                    if fault.args[0].code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
                        message += f". WRITE on the transactional id is missing; {REMEDY}"
                    if not is_retriable(fault.args[0]):
                        raise Fenced(message) from fault
                if until is not None and self._clock.monotonic() >= until:
                    raise Unreachable(message) from fault
                if until is None:
                    log.log(
                        waits.next_level(),
                        "waiting for the transaction coordinator",
                        extra={"reason": message},
                    )
                if isinstance(fault, Unreachable):
                    self._stopping.wait(RETRY_S)
            else:
                return True
        return False

    def begin(self, seconds: float | None = None) -> None:
        """Open a transaction that may take this long, by default `timeout_s`."""
        self.opened_at = self._clock.monotonic()
        self._deadline = self.opened_at + (self.timeout_s if seconds is None else seconds)
        self._retry(self._current.begin_transaction)

    def produce(self, records: Iterable[Record], deliveries: Deliveries | None = None) -> int:
        """Pass records to the producer; returns their number. `commit` waits until they are acknowledged.

        Raises Aborted or Fenced.
        """
        producer, count = self._current, 0
        check_deadline = partial(self._check_deadline, "the producer's queue stayed full")
        try:
            for record in records:
                options = (
                    {"on_delivery": deliveries.expect_report()} if deliveries is not None else {}
                )
                enqueue(producer, record, check_deadline, **options)
                count += 1
        except KafkaException as fault:
            raise self._failed(fault.args[0]) from fault
        return count

    def produce_columns(self, records: RecordColumns) -> int:
        """Pass records to the producer, as `produce` does; returns their number. Raises Aborted or Fenced."""
        if not records:
            return 0
        partitions = iter(records.partitions)
        # by position: arguments by name take a third of the time of `produce`, which looks each name up for each record
        no_callback, no_report, now = repeat(None), repeat(None), repeat(0)
        rows = (
            *map(iter, (records.topics, records.values, records.keys)),
            partitions,
            *(no_callback, no_report, now, repeat(list(records.headers))),
        )

        def taken() -> int:
            # this column is read only if those before it have a row, too
            return len(records.partitions) - length_hint(partitions)

        while True:
            try:
                deque(map(self._current.produce, *rows), maxlen=0)  # no bytecode per record
                break
            except BufferError:  # the rows go on behind the refused record
                self.produce([records.record(taken() - 1)])
            except KafkaException as fault:
                raise self._failed(fault.args[0]) from fault
        return taken()

    def produce_and_wait(self, records: Iterable[Record]) -> list[Message]:
        """Produce records; returns the messages that the leaders acknowledged, in the same order.

        Raises Aborted or Fenced.
        """
        deliveries = Deliveries()
        self.produce(records, deliveries)
        while deliveries.unreported:
            self._retry(self._serve)
            self._check_deadline("records were not acknowledged in time")
        if deliveries.errors:
            error = deliveries.errors[0]
            raise self._undelivered(error) from KafkaException(error)
        if deliveries.undelivered:
            raise Aborted(f"{deliveries.undelivered} records were not acknowledged")
        return deliveries.messages

    def send_offsets(self, offsets: Sequence[TopicPartition], group: bytes) -> None:
        """Commit offsets with the transaction, if the group metadata is still current. Raises Aborted or Fenced."""
        self._retry(self._current.send_offsets_to_transaction, list(offsets), group, SLICE_S)

    def commit(self) -> None:
        """Commit the transaction. Raises Aborted (nothing was committed) or Fenced (the outcome is unknown)."""
        self._retry(self._current.commit_transaction, SLICE_S)
        self.opened_at = None

    def abort(self) -> None:
        """Abort the open transaction. Raises Fenced if it cannot be aborted in time."""
        try:
            self._retry(self._current.abort_transaction, SLICE_S)
        except Aborted as fault:
            raise Fenced(f"abort failed: {fault}") from fault
        finally:
            self.opened_at = None

    def drop(self) -> None:
        """Release the producer with its queue; the next takeover, or the broker's timeout, ends its transaction."""
        self._producer = self.opened_at = None

    def stop(self) -> None:
        """Stop waiting for brokers that do not answer."""
        self._stopping.set()

    def close(self) -> None:
        """Stop waiting, abort the open transaction, if there is one, and release the producer."""
        self.stop()
        producer = self._producer
        self.drop()
        if producer is not None:
            with suppress(KafkaException):
                producer.abort_transaction(SLICE_S)

    @property
    def _current(self) -> Producer:
        if self._producer is None:
            raise Fenced("stopped while waiting for the transaction coordinator")
        return self._producer

    def _check_deadline(self, problem: str) -> None:
        if self._clock.monotonic() > self._deadline:
            raise Aborted(problem)

    def _serve(self) -> None:
        self._current.poll(POLL_S)  # raises if a delivery report brought a fatal error

    def _retry(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Repeat one call until its result is final. Raises Aborted or Fenced."""
        while True:
            try:
                return call(*args, **kwargs)
            except KafkaException as fault:
                may_wait = self._clock.monotonic() < self._deadline and not self._stopping.is_set()
                if not is_retriable(fault.args[0]) or not may_wait:
                    raise self._failed(fault.args[0]) from fault

    def _undelivered(self, error: KafkaError) -> Aborted | Fenced:
        """The fault for a record that was refused; its report never says that the transaction must be aborted."""
        if error.code() in FENCED_CODES:
            self.drop()
            return Fenced(_text_of(error))
        is_too_large = error.code() == KafkaError.MSG_SIZE_TOO_LARGE
        return TooLargeError(_text_of(error)) if is_too_large else Aborted(_text_of(error))

    def _failed(self, error: KafkaError) -> Aborted | Fenced:
        """The fault for an error; after Fenced the producer is of no use any more."""
        fault = _translated(error)
        if isinstance(fault, Fenced):
            self.drop()
        return fault


def is_retriable(error: KafkaError) -> bool:
    """Whether the same call may be made again."""
    return error.retriable() and not error.fatal() and not error.txn_requires_abort()


def _translated(error: KafkaError) -> Aborted | Fenced:
    if error.fatal():
        return Fenced(_text_of(error))
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return TooLargeError(_text_of(error))
    if error.txn_requires_abort():
        return Aborted(_text_of(error))
    return Fenced(_text_of(error))  # timed out, or in an unknown state: the result is unknown


def _text_of(error: KafkaError) -> str:
    return f"{error.name()}: {error.str()}"


def kafka_error_of(fault: BaseException) -> KafkaError | None:
    """The error of librdkafka that caused this fault, if one did."""
    return fault.__cause__.args[0] if isinstance(fault.__cause__, KafkaException) else None
