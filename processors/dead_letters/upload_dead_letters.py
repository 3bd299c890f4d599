"""Writes the dead letters of uploads."""

import asyncio
import logging

from confluent_kafka import Producer

from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from schemas.dead_letters import Headers, Refused, dead_letter
from schemas.errors import Malformed, Unreachable
from tables.upload_record import UploadRecord

log = logging.getLogger("cjstream.uploads")


async def put_upload_dead_letter(
    topic: str, producer: Producer, record: UploadRecord, fault: Malformed, headers: Headers = ()
) -> None:
    """Write the dead letter of a refused upload; waits until the broker has acknowledged it."""
    refused = Refused(record.key, record.value, headers)
    letter = dead_letter(record.at, record.appended_at_ms, fault, refused)
    while True:
        try:
            await asyncio.to_thread(
                deliver, producer, [Record(topic, record.at.partition, *letter)]
            )
            return
        except Unreachable as fault:  # a second letter does no harm
            extra = {"at": str(record.at), "reason": str(fault)}
            log.info("a dead letter is not acknowledged yet", extra=extra)
