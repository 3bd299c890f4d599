"""Writes the dead letters of uploads."""

import asyncio
from collections.abc import Iterable

from confluent_kafka import Producer

from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Malformed
from tables.upload_record import UploadRecord


class UploadDeadLetters:
    """Writes refused uploads to the dead-letter topic, complete, with their coordinates and the reason."""

    def __init__(self, settings: Settings, producer: Producer) -> None:
        self._topic = settings.topics.uploads_dlq.name
        self._producer = producer

    async def put(
        self,
        record: UploadRecord,
        fault: Malformed,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> None:
        """Write one dead letter; returns when the broker has acknowledged it."""
        letter_headers = dead_letter_headers(record.at, record.appended_at_ms, fault, headers)
        letter = Record(self._topic, record.at.partition, record.key, record.value, letter_headers)
        await asyncio.to_thread(deliver, self._producer, [letter])
