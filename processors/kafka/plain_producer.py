"""Producing outside a transaction, with the broker's word that every record arrived."""

import asyncio
import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.exactly_once.batch_producer import Record
from processors.settings import Settings
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Malformed, Unreachable
from tables.upload_record import UploadRecord

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


class UploadDeadLetters:
    """Puts refused uploads aside, whole, with their coordinates and the reason."""

    def __init__(self, settings: Settings, producer: Producer) -> None:
        self._topic = settings.topics.uploads_dlq.name
        self._producer = producer

    async def put(
        self,
        record: UploadRecord,
        fault: Malformed,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> None:
        """Put one record aside; returns when the broker has it."""
        told = dead_letter_headers(record.at, record.appended_at_ms, fault, headers)
        letter = Record(self._topic, record.at.partition, record.key, record.value, told)
        await asyncio.to_thread(deliver, self._producer, [letter])
