"""Commits each batch in one Kafka transaction: outcomes and offsets together, or neither.

librdkafka marks every error, and the marks decide: retriable means repeat the same call, abortable means abort and
rewind, anything else means a new producer that starts from the offsets that the broker reports as committed.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from processors.exactly_once.batch import Batch
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from processors.kafka.records import Record
from processors.kafka.transactional_producer import SLICE_S, run_until_final
from schemas.errors import Aborted, Fenced

log = logging.getLogger("cjstream.commit")


class TooLargeError(Aborted):
    """The broker refused an outcome because of its size, and with it the whole transaction."""


@dataclass(slots=True)
class BatchProducer:
    """The transactional producer of one worker. Only one thread at a time may call it."""

    new_producer: Callable[[], Producer]
    timeout_s: float
    clock: Clock = SYSTEM_CLOCK
    opened_at: float | None = None  # monotonic seconds, while a transaction is open
    _producer: Producer | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    def recreate(self) -> None:
        """Replace the producer: init_transactions fences the old one and ends its open transaction.

        Waits while no broker answers, until `stop`. Raises Fenced if the broker refuses the new producer.
        """
        self._producer = None  # the old producer's queue is dropped with it
        producer = self.new_producer()
        while not self._stopping.is_set():
            try:
                producer.init_transactions(5.0)
            except KafkaException as fault:
                error = fault.args[0]
                if not error.retriable():
                    raise Fenced(f"init_transactions: {error.str()}") from fault
                log.warning("waiting for the transaction coordinator", extra={"code": error.name()})
            else:
                self._producer = producer
                return

    def stop(self) -> None:
        """Stop waiting for brokers that do not answer."""
        self._stopping.set()

    def commit(self, batch: Batch) -> None:
        """Commit a batch. Raises Aborted (nothing was committed) or Fenced (the result is unknown).

        1. begin  2. produce every outcome, and count  3. send the offsets with the group metadata of the fetch
        4. commit
        """
        if not batch.end:
            raise ValueError(
                "no offsets: Kafka fences a transaction only by the offsets it commits"
            )
        if self._producer is None:
            self.recreate()
        producer = self._producer
        if producer is None:
            raise Fenced("stopped while waiting for the transaction coordinator")
        offsets = [
            TopicPartition(tp.topic, tp.partition, offset)
            for tp, offset in (*batch.end.items(), *batch.state_offsets.items())
        ]
        until = self.clock.monotonic() + self.timeout_s
        self.opened_at = self.clock.monotonic()
        try:
            self._retry(producer.begin_transaction, until)  # 1
            accepted = sum(self._produce(producer, record, until) for record in batch.records)  # 2
            if accepted != batch.inputs + batch.internal:
                raise Aborted(f"{accepted} records for {batch.inputs} inputs")
            self._retry(
                lambda: producer.send_offsets_to_transaction(offsets, batch.group, SLICE_S), until
            )  # 3
            self._retry(lambda: producer.commit_transaction(SLICE_S), until)  # 4
        except Aborted:
            self._abort(producer, until)
            raise
        finally:
            self.opened_at = None

    def _produce(self, producer: Producer, record: Record, until: float) -> bool:
        """Pass one record to the producer; if its queue is full, wait for space, never skip the record."""
        while True:
            try:
                producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    headers=list(record.headers),
                )
            except BufferError:
                if self.clock.monotonic() > until:
                    raise Aborted("the producer's queue stayed full") from None
                producer.poll(0.05)
            except KafkaException as fault:
                raise _translated(fault.args[0]) from fault
            else:
                return True

    def _abort(self, producer: Producer, until: float) -> None:
        try:
            self._retry(lambda: producer.abort_transaction(SLICE_S), until)
        except Aborted as fault:
            raise Fenced(f"abort failed: {fault}") from fault

    def _retry(self, step: Callable[[], None], until: float) -> None:
        """Repeat one step until its result is final; on Aborted the caller rewinds, on Fenced it recreates."""

        def may_continue() -> bool:
            return self.clock.monotonic() < until and not self._stopping.is_set()

        try:
            run_until_final(step, may_continue)
        except KafkaException as fault:
            raise _translated(fault.args[0]) from fault

    def close(self) -> None:
        """Abort the open transaction, if there is one, and release the producer."""
        self.stop()
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaException):
                producer.abort_transaction(1.0)


def _translated(error: KafkaError) -> Aborted | Fenced:
    message = f"{error.name()}: {error.str()}"
    if error.fatal():
        return Fenced(message)
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return TooLargeError(message)
    if error.txn_requires_abort():
        return Aborted(message)
    return Fenced(message)  # timed out, or in an unknown state: the result is unknown
