"""Commits batches, and decides what a failed commit means."""

import logging

from processors.exactly_once.assignment_epoch import AssignmentEpoch
from processors.exactly_once.batch import Batch
from processors.exactly_once.batch_producer import BatchProducer, TooLargeError
from schemas.coordinates import Coordinates
from schemas.errors import Aborted, Fenced

log = logging.getLogger("cjstream.prep")
MAX_FENCED = 5  # times in a row, before another instance is taken to own this worker's slot


class Committer:
    """Carries batches through transactions; whatever goes wrong ends in one of three ways."""

    def __init__(self, ownership: AssignmentEpoch, outbox: BatchProducer) -> None:
        self._epochs = ownership
        self._producer = outbox
        self._fenced = 0
        self.refused_at: Coordinates | None = None  # a lone request whose outcome was too large
        self.too_large = 0  # requests in the last batch that the broker refused for its size

    def commit(self, batch: Batch) -> None:
        """Commit, drop a batch that may not be committed any more, or rewind by ending the epoch.

        Raises Fenced where every new producer is fenced again, Discrepancy where a batch was lost.
        """
        with self._epochs.transaction(batch.epoch, batch.start, batch.end) as mine:
            if not mine:
                return
            try:
                self._producer.commit(batch)
            except Aborted as fault:
                self._epochs.end()
                self._note_too_large(batch, fault)
                _log_failure("batch aborted", batch, fault)
            except Fenced as fault:
                self._epochs.end()
                self._fenced += 1
                _log_failure("batch fenced", batch, fault)
                if self._fenced > MAX_FENCED:
                    raise
                self._producer.recreate()
            else:
                self._fenced = 0
                self.too_large = 0

    def _note_too_large(self, batch: Batch, fault: Aborted) -> None:
        if isinstance(fault, TooLargeError):
            self.too_large = batch.inputs
            self.refused_at = batch.only_input or self.refused_at


def _log_failure(phrase: str, batch: Batch, fault: Exception) -> None:
    first = ", ".join(f"{at.topic}/{at.partition}@{start}" for at, start in batch.start.items())
    log.warning(phrase, extra={"requests": batch.inputs, "first": first, "reason": str(fault)})
