"""Produces outside a transaction and waits until every record is acknowledged."""

import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.kafka.records import Record
from schemas.errors import Unreachable

DELIVERY_TIMEOUT_S = 30.0


def deliver(producer: Producer, records: Iterable[Record]) -> list[Message]:
    """Produce records and wait for all; returns the delivered messages, in delivery order.

    If a record's partition is negative, the producer's partitioner chooses one. Raises Unreachable if a record was not
    acknowledged in time.
    """
    delivered: list[Message] = []
    failed: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is None:
            delivered.append(message)
        else:
            failed.append(error)

    count = 0
    for record in records:
        _enqueue(producer, record, on_delivery)
        count += 1
    until = time.monotonic() + DELIVERY_TIMEOUT_S
    # counts reports instead of flushing: another thread's flush may deliver the reports of this one
    while len(delivered) + len(failed) < count and time.monotonic() < until:
        producer.poll(0.05)
    if len(delivered) < count:
        reason = failed[0].str() if failed else "no answer"
        raise Unreachable(f"{count - len(delivered)} records were not acknowledged: {reason}")
    return delivered


OnDelivery = Callable[[KafkaError | None, Message], None]


def _enqueue(producer: Producer, record: Record, on_delivery: OnDelivery) -> None:
    while True:
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                on_delivery=on_delivery,
                headers=list(record.headers),
            )
            return
        except BufferError:
            producer.poll(0.1)
        except KafkaException as fault:
            raise Unreachable(f"{record.topic}: {fault.args[0].str()}") from fault
