"""Producing outside a transaction, with the broker's word that every record arrived."""

import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.kafka.records import Record
from schemas.errors import Unreachable

DELIVERY_S = 30.0


def deliver(producer: Producer, records: Iterable[Record]) -> list[Message]:
    """Produce records and wait for all; gives them as the broker stamped them, in delivery order.

    A negative partition leaves the choice to the producer's partitioner. Raises Unreachable where a record
    was not acknowledged in time.
    """
    delivered: list[Message] = []
    failed: list[KafkaError] = []

    def heard(error: KafkaError | None, message: Message) -> None:
        if error is None:
            delivered.append(message)
        else:
            failed.append(error)

    count = 0
    for record in records:
        _queued(producer, record, heard)
        count += 1
    until = time.monotonic() + DELIVERY_S
    # counted, not flushed: another thread's flush may be giving this one's reports just now
    while len(delivered) + len(failed) < count and time.monotonic() < until:
        producer.poll(0.05)
    if len(delivered) < count:
        why = failed[0].str() if failed else "no answer"
        raise Unreachable(f"{count - len(delivered)} records were not acknowledged: {why}")
    return delivered


Heard = Callable[[KafkaError | None, Message], None]


def _queued(producer: Producer, record: Record, heard: Heard) -> None:
    while True:
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                on_delivery=heard,
                headers=list(record.headers),
            )
            return
        except BufferError:
            producer.poll(0.1)
        except KafkaException as fault:
            raise Unreachable(f"{record.topic}: {fault.args[0].str()}") from fault
