"""Positions that stand still while there is more to read. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.coordinates import Partition


class Progress(NamedTuple):
    """One look at one partition: the position, and the end that it should reach."""

    position: int
    end: int


class StallDetector:
    """Counts looks, not time: a process that was frozen has had no time to go on."""

    def __init__(self) -> None:
        self._looks: dict[Partition, tuple[int, int]] = {}  # position, and looks in a row

    def observe(self, seen: Mapping[Partition, Progress]) -> dict[Partition, int]:
        """How many looks in a row each position has stood below its end; only those that do.

        What is not seen now is forgotten.
        """
        before = self._looks
        self._looks = {
            at: (position, before[at][1] + 1 if at in before and before[at][0] == position else 1)
            for at, (position, end) in seen.items()
            if position < end
        }
        return {at: looks for at, (_, looks) in self._looks.items()}
