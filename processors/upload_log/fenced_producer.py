"""Appends upload events in one transaction of a partition's fenced producer, and returns the coordinates of each.

The transactional id names the partition: opening a producer ends the transaction of the previous producer and fences
it. So what a writer has read since its producer was opened is still current when its own transaction is committed.
"""

import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from processors.kafka.clients import admin_transactional_id
from processors.kafka.records import Record, coordinates_of
from processors.kafka.transactional_producer import (
    FENCED_CODES,
    kafka_error_of,
    producer_with_id,
)
from processors.log.leftover_transactions import end_leftovers
from processors.log.reader import LogReader
from processors.settings import Settings, administered_topics
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Positions
from schemas.errors import Aborted, BadRecord, Fenced, Unreachable, WriterContended
from schemas.events import UploadEvent, role_of, scope_key_of

log = logging.getLogger("cjstream.writer")
silent_log = logging.getLogger("cjstream.librdkafka.writer")
silent_log.setLevel(logging.CRITICAL + 1)  # librdkafka logs a takeover as fatal; here it is normal


@dataclass(frozen=True, slots=True)
class AppendedEvent:
    """An event in the log, its coordinates, and its append time by the broker's clock."""

    event: UploadEvent
    at: Coordinates
    appended_at_ms: int


class FencedProducer:
    """The producer of one partition number of the upload topics; only one thread at a time may call it."""

    def __init__(self, settings: Settings, codec: Codec, partition: int) -> None:
        self._settings = settings
        self._codec = codec
        self._partition = partition
        topics = administered_topics(settings)
        self._topic_of = {role: name for name, role in topics.roles.items()}
        transactional_id = admin_transactional_id(settings, partition)
        partitions = settings.administered_partitions_with(partition)
        self._producer = producer_with_id(
            settings,
            transactional_id,
            partial(end_leftovers, settings, transactional_id, partitions),
            logger=silent_log,
        )
        self.may_have_open_transaction = False  # it would block every reader until it is ended
        self.fenced = 0  # how often another instance has taken over the partition

    @property
    def is_open(self) -> bool:
        """Whether this producer owns the partition, as far as it knows."""
        return self._producer.is_open

    def open(self, until: float) -> None:
        """Take over the partition; the previous owner's transaction has ended when this returns.

        `until` is a `time.monotonic()` deadline. Raises WriterContended or Unreachable.
        """
        try:
            self._producer.take_over(until - time.monotonic())
        except (Fenced, Unreachable) as fault:
            self._raise_if_fenced(fault)
            raise Unreachable(f"no transaction coordinator answers: {fault}") from fault
        self.may_have_open_transaction = False

    def append(self, events: Sequence[UploadEvent], until: float) -> list[AppendedEvent]:
        """Append the events, all or none, in one transaction.

        Raises WriterContended or Unreachable if nothing was appended, Fenced if that is unknown. After each of these
        the producer must be opened again.
        """
        if not self.is_open:
            raise Unreachable("the producer is not open")
        self.may_have_open_transaction, is_commit_requested = True, False
        try:
            self._producer.begin(until - time.monotonic())
            messages = self._producer.produce_and_wait(map(self._record, events))
            is_commit_requested = True  # from here on the broker may have committed
            self._producer.commit()
        except (Aborted, Fenced) as fault:
            self._producer.drop()
            if is_commit_requested:
                self._note_takeover(fault)
                raise Fenced(str(fault)) from fault
            self._raise_if_fenced(fault)
            raise Unreachable(str(fault)) from fault
        self.may_have_open_transaction = False
        return [
            AppendedEvent(event, coordinates_of(message), message.timestamp()[1])
            for event, message in zip(events, messages, strict=True)
        ]

    def _record(self, event: UploadEvent) -> Record:
        return Record(
            self._topic_of[role_of(event)],
            self._partition,
            scope_key_of(event).encode(),
            self._codec.encode(event),
            (
                ("event_type", type(event).__name__.encode()),
                ("correlation_id", event.correlation_id.encode()),
            ),
        )

    def find(
        self, event_ids: Collection[str], starts: Positions, ends: Positions
    ) -> list[AppendedEvent]:
        """Those of these events that are in the log between starts and ends. Raises Unreachable."""
        found = list[AppendedEvent]()
        with LogReader(self._settings, starts) as log:
            log.seek(starts)
            for record in log.records_until(ends):
                with suppress(BadRecord):  # a record that is not one of ours
                    event = self._codec.decode(record.value)
                    if isinstance(event, UploadEvent) and event.event_id in event_ids:
                        found.append(AppendedEvent(event, record.at, record.appended_at_ms))
        return found

    def _raise_if_fenced(self, fault: Exception) -> None:
        if self._note_takeover(fault):
            raise WriterContended(f"another instance took over the partition: {fault}") from fault

    def _note_takeover(self, fault: Exception) -> bool:
        """Whether another instance owns the partition now; if so, it is counted and logged."""
        error = kafka_error_of(fault)
        if error is None or error.code() not in FENCED_CODES:
            return False
        self.fenced += 1
        self.may_have_open_transaction = False  # the takeover has ended it
        log.info(  # instances that write in turn fence each other
            "upload writer fenced", extra={"partition": self._partition, "reason": error.name()}
        )
        return True

    def close(self) -> None:
        """Release the producer."""
        self._producer.drop()
