"""Appends upload events in one transaction of a partition's fenced producer, and returns the coordinates of each.

The transactional id names the partition: opening a producer ends the transaction of the previous producer and fences
it. So what a writer has read since its producer was opened is still current when its own transaction is committed.
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
silent_log = logging.getLogger("cjstream.librdkafka.writer")
silent_log.setLevel(logging.CRITICAL + 1)  # librdkafka logs a takeover as fatal; here it is normal
FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}


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
        topics = settings.topics
        self._topic_of = {
            "instructions": topics.instructions.name,
            "student_prompt": topics.student_prompts.name,
            "judge_rubric": topics.judge_rubrics.name,
        }
        self._producer: Producer | None = None
        self.may_have_open_transaction = False  # it would block every reader until it is ended
        self.fenced = 0  # how often another instance has taken over the partition

    @property
    def is_open(self) -> bool:
        """Whether this producer owns the partition, as far as it knows."""
        return self._producer is not None

    def open(self, until: float) -> None:
        """Take over the partition; the previous owner's transaction has ended when this returns.

        `until` is a `time.monotonic()` deadline. Raises WriterContended or Unreachable.
        """
        transactional_id = admin_transactional_id(self._settings, self._partition)
        producer = transactional_producer(
            self._settings, transactional_id, **{"logger": silent_log}
        )
        try:
            run_until_final(lambda: producer.init_transactions(SLICE_S), _before(until))
        except KafkaException as fault:
            if self._is_fenced(fault):
                raise WriterContended(
                    f"another instance took over the partition: {fault.args[0].name()}"
                ) from fault
            raise Unreachable(
                f"no transaction coordinator answers: {fault.args[0].name()}"
            ) from fault
        self._producer, self.may_have_open_transaction = producer, False

    def append(self, events: Sequence[UploadEvent], until: float) -> list[AppendedEvent]:
        """Append the events, all or none, in one transaction.

        Raises WriterContended or Aborted if nothing was appended, Fenced if that is unknown. After each of these the
        producer must be opened again.
        """
        if self._producer is None:
            raise Aborted("the producer is not open")
        producer, self._producer = self._producer, None
        self.may_have_open_transaction = True
        try:
            appended = self._produce(producer, events, until)
        except KafkaException as fault:
            if self._is_fenced(fault):
                raise WriterContended(
                    f"another instance took over the partition: {fault.args[0].name()}"
                ) from fault
            raise Aborted(fault.args[0].name()) from fault
        # no commit was requested before this point; after it the broker may have committed
        try:
            run_until_final(lambda: producer.commit_transaction(SLICE_S), _before(until))
        except KafkaException as fault:
            self._is_fenced(fault)
            raise Fenced(f"commit_transaction: {fault.args[0].name()}") from fault
        self._producer, self.may_have_open_transaction = producer, False
        return appended

    def _produce(
        self, producer: Producer, events: Sequence[UploadEvent], until: float
    ) -> list[AppendedEvent]:
        """The events as acknowledged by the leader, not yet committed."""
        appended, refused = list[AppendedEvent](), list[KafkaError]()

        def on_delivery(event: UploadEvent, error: KafkaError | None, message: Message) -> None:
            if error is None:
                appended.append(
                    AppendedEvent(event, coordinates_of(message), message.timestamp()[1])
                )
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
                on_delivery=partial(on_delivery, event),
            )
        while flush_once(producer) and time.monotonic() < until:
            pass
        if refused:
            raise KafkaException(refused[0])
        if len(appended) != len(events):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return appended

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

    def _is_fenced(self, fault: KafkaException) -> bool:
        """Whether another instance owns the partition now; if so, it is counted and logged."""
        error = fault.args[0]
        if error.code() not in FENCED:
            return False
        self.fenced += 1
        self.may_have_open_transaction = False  # the takeover has ended it
        log.warning(
            "upload writer fenced", extra={"partition": self._partition, "reason": error.name()}
        )
        return True

    def close(self) -> None:
        """Release the producer."""
        self._producer = None


def _before(until: float) -> Callable[[], bool]:
    return lambda: time.monotonic() < until
