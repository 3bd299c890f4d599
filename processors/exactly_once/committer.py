"""Commits each batch in one Kafka transaction, and decides what to do after a failed commit."""

import logging

from confluent_kafka import TopicPartition

from processors.exactly_once.batch import Batch
from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.exactly_once.observer import NoObserver, Observer
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Repeats
from processors.kafka.transactional_producer import TooLargeError, TransactionalProducer
from schemas.coordinates import Coordinates
from schemas.errors import Aborted, Fenced

log = logging.getLogger("cjstream.commit")
MAX_FENCED = 5  # in a row; one more means that another instance owns this worker's slot


def commit_batch(
    producer: TransactionalProducer, batch: Batch, observer: Observer | None = None
) -> None:
    """Commit a batch: outcomes and offsets together, or neither.

    1. begin  2. produce every outcome, and count  3. send the offsets with the group metadata of the fetch
    4. commit

    Raises Aborted (nothing was committed) or Fenced (the result is unknown).
    """
    if not batch.end:
        raise ValueError("no offsets: Kafka fences a transaction only by the offsets it commits")
    if not producer.is_open:
        producer.take_over()
    observer = observer or NoObserver()
    offsets = [
        TopicPartition(*tp, offset)
        for tp, offset in (*batch.end.items(), *batch.state_offsets.items())
    ]
    began_s = SYSTEM_CLOCK.monotonic()
    try:
        producer.begin()  # 1
        accepted = producer.produce_columns(batch.outcomes)  # 2
        accepted += producer.produce(batch.records, batch.deliveries)
        if accepted != batch.inputs + batch.internal:
            raise Aborted(f"{accepted} records for {batch.inputs} inputs")
        produced_s = SYSTEM_CLOCK.monotonic()
        producer.send_offsets(offsets, batch.group)  # 3
        producer.commit()  # 4
    except Aborted:
        producer.abort()
        raise
    observer.took("produce", produced_s - began_s)
    observer.took("commit", SYSTEM_CLOCK.monotonic() - produced_s)


class Committer:
    """Commits batches in transactions; after a failure it rewinds, recreates the producer or raises."""

    def __init__(
        self,
        epochs: FetchEpoch,
        producer: TransactionalProducer,
        observer: Observer | None = None,
    ) -> None:
        self._epochs = epochs
        self._producer = producer
        self._observer = observer or NoObserver()
        self._fenced_in_a_row = 0
        self._failures = Repeats(tolerated=1)  # a rebalance or a restart of the broker
        # the newest input that was alone in its batch and whose outcome was too large
        self.refused_at: Coordinates | None = None
        self.too_large_inputs = 0  # in the last batch that the broker refused because of its size

    def commit(self, batch: Batch) -> None:
        """Commit a batch, drop it if its epoch has ended, or rewind by ending the epoch.

        Raises Fenced if new producers are fenced again and again, Discrepancy if a batch was lost.
        """
        with self._epochs.transaction(batch.epoch, batch.start, batch.end) as is_current:
            if not is_current:
                return
            try:
                commit_batch(self._producer, batch, self._observer)
            except Aborted as fault:
                self._epochs.end()
                self._observer.ended(batch, "aborted")
                self._note_too_large(batch, fault)
                self._log_failure("batch aborted", batch, fault)
            except Fenced as fault:
                self._epochs.end()
                self._observer.ended(batch, "fenced")
                self._fenced_in_a_row += 1
                self._log_failure("batch fenced", batch, fault)
                if self._fenced_in_a_row > MAX_FENCED:
                    raise
                self._producer.take_over()
            else:
                self._fenced_in_a_row = 0
                self._failures.end()
                self.too_large_inputs = 0
                self._observer.ended(batch, "committed")

    def _note_too_large(self, batch: Batch, fault: Aborted) -> None:
        if isinstance(fault, TooLargeError):
            self.too_large_inputs = batch.inputs
            self.refused_at = batch.only_input or self.refused_at

    def _log_failure(self, phrase: str, batch: Batch, fault: Exception) -> None:
        first = ", ".join(f"{tp}@{start}" for tp, start in batch.start.items())
        fields = {"requests": batch.inputs, "first": first, "reason": str(fault)}
        log.log(self._failures.next_level(), phrase, extra=fields)
