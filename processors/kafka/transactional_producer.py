"""Transactions that no consumer group fences, only their id: the newest producer under it is the only one.

librdkafka's marks decide as in `outbox.py`: retriable means the same call again, abortable means abort, anything
else means that another took over or that what became of the transaction is unknown.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.kafka.records import Record, coordinates_of
from schemas.coordinates import Coordinates
from schemas.errors import Aborted, Fenced, Unreachable

SLICE_S = 1.0  # of one call's waiting; a timed out call resumes when it is called again

TAKEOVER_S = 30.0


class TransactionalProducer:
    """One transaction after the other of one producer. One thread at a time calls it."""

    def __init__(self, producer: Producer, timeout_s: float) -> None:
        self._producer = producer
        self._timeout_s = timeout_s
        self._until = 0.0

    def take_over(self) -> None:
        """Fence every other producer of this id and end what it left open. Raises Unreachable or Fenced."""
        self._until = time.monotonic() + TAKEOVER_S
        try:
            self._retry(lambda: self._producer.init_transactions(SLICE_S))
        except Aborted as fault:  # never of init_transactions, says librdkafka
            raise Fenced(str(fault)) from fault

    def begin(self) -> None:
        """Open a transaction."""
        self._until = time.monotonic() + self._timeout_s
        self._retry(self._producer.begin_transaction)

    def produce(self, records: Iterable[Record]) -> list[Coordinates]:
        """Produce records and wait for all; gives where each stands, in the order given.

        Raises Aborted or Fenced.
        """
        heard: dict[int, Coordinates] = {}
        count = 0
        for count, record in enumerate(records, 1):
            self._put(record, partial(_heard, heard, count))
        self._retry(self._flush)
        if len(heard) != count:
            raise Aborted(f"{len(heard)} of {count} records were acknowledged")
        return [heard[at] for at in range(1, count + 1)]

    def _put(
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
                self._in_time("the producer's queue stayed full")
            except KafkaException as fault:
                raise _translated(fault.args[0]) from fault
            else:
                return

    def _flush(self) -> None:
        while flush_once(self._producer):
            self._in_time("records were not acknowledged in time")

    def _in_time(self, otherwise: str) -> None:
        if time.monotonic() > self._until:
            raise Aborted(otherwise)

    def commit(self) -> None:
        """Commit. Raises Aborted (nothing was committed) or Fenced (that is unknown)."""
        self._retry(lambda: self._producer.commit_transaction(SLICE_S))

    def abort(self) -> None:
        """Take back what is open. Raises Fenced where another has taken over."""
        self._until = time.monotonic() + self._timeout_s
        self._retry(lambda: self._producer.abort_transaction(SLICE_S))

    def close(self) -> None:
        """Take back what is open, if anything is; what cannot be is left to the broker's timeout."""
        with suppress(KafkaException):
            self._producer.abort_transaction(SLICE_S)

    def _retry(self, step: Callable[[], None]) -> None:
        try:
            run_until_final(step, lambda: time.monotonic() < self._until)
        except KafkaException as fault:
            raise _translated(fault.args[0]) from fault


def _heard(
    heard: dict[int, Coordinates], at: int, error: KafkaError | None, message: Message
) -> None:
    if error is None:
        heard[at] = coordinates_of(message)


def _translated(error: KafkaError) -> Aborted | Fenced | Unreachable:
    told = f"{error.name()}: {error.str()}"
    if error.txn_requires_abort() and not error.fatal():
        return Aborted(told)
    if error.retriable() and not error.fatal():
        return Unreachable(told)
    return Fenced(told)


def run_until_final(step: Callable[[], None], goes_on: Callable[[], bool]) -> None:
    """Run one step to its end; goes_on says whether there is time for the same call again.

    Raises the KafkaException that ended it: its marks say what is to follow.
    """
    while True:
        try:
            return step()
        except KafkaException as fault:
            error = fault.args[0]
            again = error.retriable() and not error.fatal() and not error.txn_requires_abort()
            if not again or not goes_on():
                raise


def flush_once(producer: Producer) -> int:
    """Wait a while for delivery reports; gives how many are still to come. Raises KafkaException.

    A fatal error that comes while a report is given is raised by the binding as a SystemError.
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
