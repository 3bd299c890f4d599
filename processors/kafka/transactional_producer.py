"""Transactions without a consumer group: only the transactional id fences, and its newest producer wins.

The flags of librdkafka's errors decide, as in `processors/exactly_once/batch_producer.py`: retriable means make the
same call again, abortable means abort, anything else means that the producer was fenced or that the outcome of the
transaction is unknown.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.kafka.records import Record, coordinates_of
from schemas.coordinates import Coordinates
from schemas.errors import Aborted, Fenced, Unreachable

SLICE_S = 1.0  # timeout of one call; a timed out call resumes when it is made again

TAKEOVER_S = 30.0


class TransactionalProducer:
    """A producer that runs one transaction after the other. Not thread-safe: one thread at a time may call it."""

    def __init__(self, producer: Producer, timeout_s: float) -> None:
        self._producer = producer
        self._timeout_s = timeout_s
        self._deadline = 0.0

    def take_over(self) -> None:
        """Fence every other producer with this id and end its open transaction. Raises Unreachable or Fenced."""
        self._deadline = time.monotonic() + TAKEOVER_S
        try:
            self._retry(lambda: self._producer.init_transactions(SLICE_S))
        except Aborted as fault:  # librdkafka documents that init_transactions never asks for it
            raise Fenced(str(fault)) from fault

    def begin(self) -> None:
        """Open a transaction."""
        self._deadline = time.monotonic() + self._timeout_s
        self._retry(self._producer.begin_transaction)

    def produce(self, records: Iterable[Record]) -> list[Coordinates]:
        """Produce records and wait for all; returns their coordinates in the same order.

        Raises Aborted or Fenced.
        """
        delivered: dict[int, Coordinates] = {}
        count = 0
        for count, record in enumerate(records, 1):
            self._enqueue(record, partial(_note_delivery, delivered, count))
        self._retry(self._flush)
        if len(delivered) != count:
            raise Aborted(f"{len(delivered)} of {count} records were acknowledged")
        return [delivered[number] for number in range(1, count + 1)]

    def _enqueue(
        self, record: Record, on_delivery: Callable[[KafkaError | None, Message], None]
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=on_delivery,
                    headers=list(record.headers),
                )
            except BufferError:
                self._producer.poll(0.05)
                self._check_deadline("the producer's queue stayed full")
            except KafkaException as fault:
                raise _translated(fault.args[0]) from fault
            else:
                return

    def _flush(self) -> None:
        while flush_once(self._producer):
            self._check_deadline("records were not acknowledged in time")

    def _check_deadline(self, problem: str) -> None:
        if time.monotonic() > self._deadline:
            raise Aborted(problem)

    def commit(self) -> None:
        """Commit the transaction. Raises Aborted (nothing was committed) or Fenced (the outcome is unknown)."""
        self._retry(lambda: self._producer.commit_transaction(SLICE_S))

    def abort(self) -> None:
        """Abort the open transaction. Raises Fenced if another producer took over."""
        self._deadline = time.monotonic() + self._timeout_s
        self._retry(lambda: self._producer.abort_transaction(SLICE_S))

    def close(self) -> None:
        """Abort the open transaction, if there is one; if that fails, the broker's timeout aborts it."""
        with suppress(KafkaException):
            self._producer.abort_transaction(SLICE_S)

    def _retry(self, step: Callable[[], None]) -> None:
        try:
            run_until_final(step, lambda: time.monotonic() < self._deadline)
        except KafkaException as fault:
            raise _translated(fault.args[0]) from fault


def _note_delivery(
    delivered: dict[int, Coordinates], number: int, error: KafkaError | None, message: Message
) -> None:
    if error is None:
        delivered[number] = coordinates_of(message)


def _translated(error: KafkaError) -> Aborted | Fenced | Unreachable:
    text = f"{error.name()}: {error.str()}"
    if error.txn_requires_abort() and not error.fatal():
        return Aborted(text)
    if error.retriable() and not error.fatal():
        return Unreachable(text)
    return Fenced(text)


def run_until_final(step: Callable[[], None], may_retry: Callable[[], bool]) -> None:
    """Run one step; make the same call again after a retriable error, while may_retry allows it.

    Raises the KafkaException that ended it: its flags say how to react.
    """
    while True:
        try:
            return step()
        except KafkaException as fault:
            error = fault.args[0]
            is_retriable = (
                error.retriable() and not error.fatal() and not error.txn_requires_abort()
            )
            if not is_retriable or not may_retry():
                raise


def flush_once(producer: Producer) -> int:
    """Wait up to SLICE_S for delivery reports; returns the number still missing. Raises KafkaException.

    The Python binding raises a fatal error during a delivery report as a SystemError.
    """
    try:
        return producer.flush(SLICE_S)
    except SystemError as fault:
        first: BaseException = fault
        while first.__cause__ is not None:
            first = first.__cause__
        if isinstance(first, KafkaException):
            raise first from None
        raise
