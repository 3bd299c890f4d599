"""Produces records: waits while the producer's queue is full, and until the records are acknowledged."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.kafka.records import Record
from schemas.errors import Unreachable

DELIVERY_TIMEOUT_S = 30.0
POLL_S = 0.05


class Deliveries:
    """The delivery reports of records that are produced one after the other."""

    def __init__(self) -> None:
        self.errors: list[KafkaError] = []
        self._expected = 0
        self._delivered: dict[int, Message] = {}

    def expect_report(self) -> Callable[[KafkaError | None, Message], None]:
        """The callback for the report of the next record."""
        self._expected += 1
        return partial(self._note, self._expected)

    def _note(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._delivered[number] = message
        else:
            self.errors.append(error)

    @property
    def unreported(self) -> int:
        """The number of records without a report."""
        return self.undelivered - len(self.errors)

    @property
    def undelivered(self) -> int:
        """The number of records that are not acknowledged."""
        return self._expected - len(self._delivered)

    @property
    def messages(self) -> list[Message]:
        """The acknowledged messages, in the order of their records."""
        return [self._delivered[number] for number in sorted(self._delivered)]


def enqueue(
    producer: Producer, record: Record, on_full: Callable[[], None] = lambda: None, **options: Any
) -> None:
    """Pass one record to a producer; while its queue is full, serve it and call `on_full`, never skip the record."""
    while True:
        try:
            return producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                headers=list(record.headers),
                **options,
            )
        except BufferError:
            producer.poll(POLL_S)
            on_full()


def deliver(producer: Producer, records: Iterable[Record]) -> list[Message]:
    """Produce records outside a transaction and wait for all; returns the messages, in the same order.

    If a record's partition is negative, the producer's partitioner chooses one. Raises Unreachable if a record was not
    acknowledged in time.
    """
    deliveries = Deliveries()
    for record in records:
        try:
            enqueue(producer, record, on_delivery=deliveries.expect_report())
        except KafkaException as fault:
            raise Unreachable(f"{record.topic}: {fault.args[0].str()}") from fault
    until = time.monotonic() + DELIVERY_TIMEOUT_S
    # counts reports instead of flushing: another thread's flush may deliver the reports of this one
    while deliveries.unreported and time.monotonic() < until:
        producer.poll(POLL_S)
    if deliveries.undelivered:
        reason = deliveries.errors[0].str() if deliveries.errors else "no answer"
        raise Unreachable(f"{deliveries.undelivered} records were not acknowledged: {reason}")
    return deliveries.messages
