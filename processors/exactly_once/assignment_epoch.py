"""Which prepared batches may still be committed.

An epoch is a stretch of fetching under one assignment from known committed positions. Whatever makes prepared
batches worthless (a partition revoked or lost, an abort, a rewind) ends it, and every batch of it is dropped.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from schemas.coordinates import Partition
from schemas.errors import Discrepancy


class AssignmentEpoch:
    """The current epoch and, in it, where the last committed batch of each partition ended."""

    def __init__(self, lock: AbstractContextManager[object] | None = None) -> None:
        self._transaction = lock or threading.RLock()  # held while a transaction is open
        self._ends: dict[Partition, int] = {}
        self.number = 0

    def end(self) -> None:
        """Drop every prepared batch; waits for the open transaction to end first."""
        with self._transaction:
            self.number += 1
            self._ends = {}

    def begin(self, epoch: int, committed: Mapping[Partition, int]) -> None:
        """Fetching starts over from these committed positions."""
        with self._transaction:
            if epoch == self.number:
                self._ends = dict(committed)

    @contextmanager
    def transaction(
        self, epoch: int, start: Mapping[Partition, int], end: Mapping[Partition, int]
    ) -> Iterator[bool]:
        """Hold revocation off for one transaction; gives False where the batch must be dropped.

        Raises Discrepancy where the batch does not start where the last one of its partition ended: a batch in
        between was lost, and committing this one would seal that.
        """
        with self._transaction:
            if epoch != self.number:
                yield False
                return
            for at, position in start.items():
                if self._ends.get(at) != position:
                    raise Discrepancy(
                        f"batch of {at.topic}/{at.partition} starts at {position}, the last one ended at "
                        f"{self._ends.get(at)}: a batch was lost inside the worker"
                    )
            yield True
            if epoch == self.number:
                self._ends.update(end)
