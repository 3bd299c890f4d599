"""Upload events in one transaction of one partition's fenced producer, each with where it came to stand.

The transactional id names the partition: whoever opens it ends the transaction of the one before and fences it, so
that what an appender read after it was opened still holds when its own transaction is committed.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.kafka.clients import admin_transactional_id, transactional_producer
from processors.kafka.records import coordinates_of
from processors.kafka.transactional_producer import SLICE_S, flush_once, run_until_final
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Positions
from schemas.errors import Aborted, BadRecord, Fenced, Unreachable, WriterContended
from schemas.events import UploadEvent, role_of, scope_key_of

log = logging.getLogger("cjstream.writer")
silent = logging.getLogger("cjstream.librdkafka.writer")
silent.setLevel(logging.CRITICAL + 1)  # a takeover is fatal to librdkafka, and everyday here
FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}


@dataclass(frozen=True, slots=True)
class AppendedEvent:
    """An event that is in the log, where, and since when by the broker's clock."""

    event: UploadEvent
    at: Coordinates
    appended_at_ms: int


class FencedProducer:
    """The producer of one partition number of the upload topics. One thread at a time calls it."""

    def __init__(self, settings: Settings, codec: Codec, partition: int) -> None:
        self._settings = settings
        self._codec = codec
        self._partition = partition
        topics = settings.topics
        self._topic_of = {
            "instructions": topics.instructions.name,
            "student_prompt": topics.student_prompts.name,
            "judge_rubric": topics.judge_rubrics.name,
        }
        self._producer: Producer | None = None
        self.has_left_open = (
            False  # a transaction, maybe: it holds up every reader until it is ended
        )
        self.fenced = 0  # times that another instance was found to have taken the partition over

    @property
    def is_open(self) -> bool:
        """Whether it has the partition, as far as it knows."""
        return self._producer is not None

    def open(self, until: float) -> None:
        """Take over the partition: the transaction of whoever had it is over when this returns.

        until is monotonic. Raises WriterContended or Unreachable.
        """
        own_id = admin_transactional_id(self._settings, self._partition)
        producer = transactional_producer(self._settings, own_id, **{"logger": silent})
        try:
            run_until_final(lambda: producer.init_transactions(SLICE_S), _before(until))
        except KafkaException as fault:
            if self._is_fenced(fault):
                raise WriterContended(f"taken over meanwhile: {fault.args[0].name()}") from fault
            raise Unreachable(f"no transaction coordinator: {fault.args[0].name()}") from fault
        self._producer, self.has_left_open = producer, False

    def append(self, events: Sequence[UploadEvent], until: float) -> list[AppendedEvent]:
        """Append the events, all or none, in one transaction.

        Raises WriterContended or Aborted: nothing was appended; Fenced: that is unknown. After each of them the
        appender is to be opened anew.
        """
        if self._producer is None:
            raise Aborted("the appender is not open")
        producer, self._producer = self._producer, None
        self.has_left_open = True
        try:
            placed = self._produced(producer, events, until)
        except KafkaException as fault:
            if self._is_fenced(fault):
                raise WriterContended(f"taken over meanwhile: {fault.args[0].name()}") from fault
            raise Aborted(fault.args[0].name()) from fault
        # before this point no commit was asked for; from here on the broker may have done it
        try:
            run_until_final(lambda: producer.commit_transaction(SLICE_S), _before(until))
        except KafkaException as fault:
            self._is_fenced(fault)
            raise Fenced(f"commit_transaction: {fault.args[0].name()}") from fault
        self._producer, self.has_left_open = producer, False
        return placed

    def _produced(
        self, producer: Producer, events: Sequence[UploadEvent], until: float
    ) -> list[AppendedEvent]:
        """Every event as the leader acknowledged it, not yet committed."""
        placed, refused = list[AppendedEvent](), list[KafkaError]()

        def reported(event: UploadEvent, error: KafkaError | None, message: Message) -> None:
            if error is None:
                placed.append(AppendedEvent(event, coordinates_of(message), message.timestamp()[1]))
            else:
                refused.append(error)

        producer.begin_transaction()
        for event in events:
            producer.produce(
                self._topic_of[role_of(event)],
                self._codec.encode(event),
                scope_key_of(event).encode(),
                self._partition,
                headers=[
                    ("event_type", type(event).__name__.encode()),
                    ("correlation_id", event.correlation_id.encode()),
                ],
                on_delivery=partial(reported, event),
            )
        while flush_once(producer) and time.monotonic() < until:
            pass
        if refused:
            raise KafkaException(refused[0])
        if len(placed) != len(events):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return placed

    def find(
        self, event_ids: Collection[str], starts: Positions, ends: Positions
    ) -> list[AppendedEvent]:
        """Which of these events are in the log between starts and ends. Raises Unreachable."""
        found = list[AppendedEvent]()
        with LogReader(self._settings, starts) as log:
            log.seek(starts)
            for record in log.records_until(ends):
                with suppress(BadRecord):  # somebody else's
                    event = self._codec.decode(record.value)
                    if isinstance(event, UploadEvent) and event.event_id in event_ids:
                        found.append(AppendedEvent(event, record.at, record.appended_at_ms))
        return found

    def _is_fenced(self, fault: KafkaException) -> bool:
        """Whether another instance has the partition now; counted and logged."""
        error = fault.args[0]
        if error.code() not in FENCED:
            return False
        self.fenced += 1
        self.has_left_open = False  # taking over has ended it
        told = {"partition": self._partition, "reason": error.name()}
        log.warning("writer_fenced", extra=told)
        return True

    def close(self) -> None:
        """Let go of the producer."""
        self._producer = None


def _before(until: float) -> Callable[[], bool]:
    return lambda: time.monotonic() < until
