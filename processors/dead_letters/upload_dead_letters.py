"""Writes the dead letters of uploads."""

import asyncio
from collections.abc import Iterable

from confluent_kafka import Producer

from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Malformed
from tables.upload_record import UploadRecord


async def put_upload_dead_letter(
    topic: str,
    producer: Producer,
    record: UploadRecord,
    fault: Malformed,
    headers: Iterable[tuple[str, bytes | None]] = (),
) -> None:
    """Write a refused upload to the dead-letter topic, complete, with its coordinates and the reason.

    Returns when the broker has acknowledged it.
    """
    letter_headers = dead_letter_headers(record.at, record.appended_at_ms, fault, headers)
    letter = Record(topic, record.at.partition, record.key, record.value, letter_headers)
    await asyncio.to_thread(deliver, producer, [letter])
