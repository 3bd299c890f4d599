"""Decides which prepared batches may still be committed.

An epoch is a period of fetching with one set of assigned partitions, from known committed offsets. A revoked or lost
partition, an abort or a rewind ends the epoch, and every batch of it is dropped.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy


class FetchEpoch:
    """The number of the current epoch, and where the last committed batch of each partition ended."""

    def __init__(self, lock: AbstractContextManager[object] | None = None) -> None:
        self._lock = lock or threading.RLock()  # held while a transaction is open
        self._ends: dict[Partition, int] = {}
        self.number = 0

    @property
    def committed(self) -> Positions:
        """Where the last committed batch of each partition ended; empty between two epochs."""
        return dict(self._ends)

    def end(self) -> None:
        """Drop every prepared batch; waits until an open transaction has ended."""
        with self._lock:
            self.number += 1
            self._ends = {}

    def begin(self, epoch: int, committed: Mapping[Partition, int]) -> None:
        """Set the committed offsets that fetching starts from; does nothing if the epoch has ended already."""
        with self._lock:
            if epoch == self.number:
                self._ends = dict(committed)

    @contextmanager
    def transaction(
        self, epoch: int, start: Mapping[Partition, int], end: Mapping[Partition, int]
    ) -> Iterator[bool]:
        """Block revocation during one transaction; yields False if the batch must be dropped.

        Raises Discrepancy if the batch does not start where the previous batch of its partition ended: a batch in
        between was lost, and this commit would make the loss permanent.
        """
        with self._lock:
            if epoch != self.number:
                yield False
                return
            for tp, position in start.items():
                if self._ends.get(tp) != position:
                    raise Discrepancy(
                        f"batch of {tp} starts at {position}, but the previous one ended at "
                        f"{self._ends.get(tp)}: a batch was lost inside the worker"
                    )
            yield True
            if epoch == self.number:
                self._ends.update(end)
