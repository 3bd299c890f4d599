"""One Kafka transaction a batch: outcomes and offsets together, or neither.

librdkafka marks every error, and the marks decide: retriable means the same call again, abortable means abort
and rewind, anything else means a new producer that starts from what the broker says is committed.
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

log = logging.getLogger("cjstream.outbox")


class TooLargeError(Aborted):
    """The broker refused an outcome for its size, and so the whole transaction."""


@dataclass(slots=True)
class BatchProducer:
    """The transactional producer of one worker. One thread at a time calls it."""

    new_producer: Callable[[], Producer]
    timeout_s: float
    clock: Clock = SYSTEM_CLOCK
    opened_at: float | None = None  # monotonic, while a transaction is open
    _producer: Producer | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    def recreate(self) -> None:
        """A new producer: init_transactions fences the old one and ends what it left open.

        Waits for as long as no broker answers. Raises Fenced where it cannot be had at all.
        """
        self._producer = None  # the old one's queue goes with it
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
        """Wait no longer for a broker that is away."""
        self._stopping.set()

    def commit(self, batch: Batch) -> None:
        """Commit a batch. Raises Aborted (nothing was committed) or Fenced (that is unknown).

        1. begin  2. produce every outcome, and count  3. send the offsets under the group metadata of the fetch
        4. commit
        """
        if not batch.end:
            raise ValueError("a transaction without offsets is not fenced by the group")
        if self._producer is None:
            self.recreate()
        producer = self._producer
        if producer is None:
            raise Fenced("stopped while waiting for the transaction coordinator")
        offsets = [
            TopicPartition(at.topic, at.partition, end)
            for at, end in (*batch.end.items(), *batch.state_offsets.items())
        ]
        until = self.clock.monotonic() + self.timeout_s
        self.opened_at = self.clock.monotonic()
        try:
            self._retry(producer.begin_transaction, until)  # 1
            accepted = sum(self._produce(producer, record, until) for record in batch.records)  # 2
            if accepted != batch.inputs + batch.internal:
                raise Aborted(f"{accepted} records for {batch.inputs} requests")
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
        """Hand one record to the producer; a full queue is emptied first, never skipped."""
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
        """Run one step to its end; the caller rewinds on Aborted and renews on Fenced."""

        def goes_on() -> bool:
            return self.clock.monotonic() < until and not self._stopping.is_set()

        try:
            run_until_final(step, goes_on)
        except KafkaException as fault:
            raise _translated(fault.args[0]) from fault

    def close(self) -> None:
        """Abort what is open; the producer's memory goes with it."""
        self.stop()
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaException):
                producer.abort_transaction(1.0)


def _translated(error: KafkaError) -> Aborted | Fenced:
    told = f"{error.name()}: {error.str()}"
    if error.fatal():
        return Fenced(told)
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return TooLargeError(told)
    if error.txn_requires_abort():
        return Aborted(told)
    return Fenced(told)  # timed out, or in no known state: what became of it is unknown
