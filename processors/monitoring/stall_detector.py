"""Finds positions that do not advance although there is more to read. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.coordinates import Partition


class Progress(NamedTuple):
    """One observation of a partition: its position, and the end that it should reach."""

    position: int
    end: int


class StallDetector:
    """Counts observations, not time: a process that was frozen had no time to advance."""

    def __init__(self) -> None:
        # position, and how often in a row it was observed
        self._counts: dict[Partition, tuple[int, int]] = {}

    def observe(self, observed: Mapping[Partition, Progress]) -> dict[Partition, int]:
        """How often in a row each position was observed unchanged below its end; only positions below their end.

        A partition that is missing from an observation is forgotten.
        """
        before = self._counts
        self._counts = {
            partition: (
                position,
                before[partition][1] + 1
                if partition in before and before[partition][0] == position
                else 1,
            )
            for partition, (position, end) in observed.items()
            if position < end
        }
        return {partition: count for partition, (_, count) in self._counts.items()}
