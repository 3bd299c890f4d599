"""Commits batches, and decides what a failed commit means."""

import logging

from processors.exactly_once.assignment_epoch import Ownership
from processors.exactly_once.batch import Batch
from processors.exactly_once.batch_producer import Outbox, TooLargeError
from schemas.coordinates import Coordinates
from schemas.errors import Aborted, Fenced

log = logging.getLogger("cjstream.prep")
FENCED_MOST = 5  # times in a row, before another instance is taken to own this worker's slot


class Committer:
    """Carries batches through transactions; whatever goes wrong ends in one of three ways."""

    def __init__(self, ownership: Ownership, outbox: Outbox) -> None:
        self._ownership = ownership
        self._outbox = outbox
        self._fenced = 0
        self.refused_at: Coordinates | None = None  # a lone request whose outcome was too large
        self.too_large = 0  # requests in the last batch that the broker refused for its size

    def commit(self, batch: Batch) -> None:
        """Commit, drop a batch that may not be committed any more, or rewind by ending the epoch.

        Raises Fenced where every new producer is fenced again, Discrepancy where a batch was lost.
        """
        with self._ownership.transaction(batch.epoch, batch.start, batch.end) as mine:
            if not mine:
                return
            try:
                self._outbox.commit(batch)
            except Aborted as fault:
                self._ownership.end_epoch()
                self._remember(batch, fault)
                _told("batch aborted", batch, fault)
            except Fenced as fault:
                self._ownership.end_epoch()
                self._fenced += 1
                _told("batch fenced", batch, fault)
                if self._fenced > FENCED_MOST:
                    raise
                self._outbox.renew()
            else:
                self._fenced = 0
                self.too_large = 0

    def _remember(self, batch: Batch, fault: Aborted) -> None:
        if isinstance(fault, TooLargeError):
            self.too_large = batch.requests
            self.refused_at = batch.alone or self.refused_at


def _told(phrase: str, batch: Batch, fault: Exception) -> None:
    first = ", ".join(f"{at.topic}/{at.partition}@{start}" for at, start in batch.start.items())
    log.warning(phrase, extra={"requests": batch.requests, "first": first, "reason": str(fault)})
