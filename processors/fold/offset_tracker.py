"""The books of the fold's consumer: where each partition is read next, and below which offset all is done.

The invariant: every record below an offset that `safe` gives is done, or was never to be read (a marker,
aborted, compacted away). A partition's life in the books begins at its committed offset, of which that is true;
what a fetch takes from there on is open until it is done. `forget` ends that life, and the next begins at the
committed offset again: whatever became of the records in between, they are read anew.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

At = TypeVar("At", bound=tuple[str, int])  # topic and partition


class OffsetTracker(Generic[At]):
    """The places of partitions and the records taken from there; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[At, int] = {}
        # in log order, from a fetch until it is done: None until it is handed on
        self._open: dict[At, dict[int, object]] = {}

    def unplaced(self, partitions: Iterable[At]) -> list[At]:
        """Which of these have no place. Ask before each fetch, when what the last one took has been handed on.

        One whose records were not all handed on has lost its place with that.
        """
        with self._lock:
            for at in [at for at, records in self._open.items() if None in records.values()]:
                del self._places[at], self._open[at]
            return [at for at in partitions if at not in self._places]

    def start_at(self, at: At, committed: int) -> None:
        """Every record below the committed offset is done: read from there."""
        with self._lock:
            self._places[at] = committed
            self._open[at] = {}

    def fetch_positions(self, partitions: Iterable[At]) -> dict[At, int]:
        """Where a fetch has to start; a partition without a place is not to be fetched from."""
        with self._lock:
            return {at: self._places[at] for at in partitions if at in self._places}

    def fetched(self, at: At, start: int, offsets: Sequence[int], end: int) -> bool:
        """Enter what a fetch took of a partition and where it left it; False where it is not to be handed on."""
        with self._lock:
            if self._places.get(at) != start:
                return False
            self._places[at] = end
            self._open[at].update(dict.fromkeys(offsets))
            return True

    def delivered(self, at: At, offset: int, record: object) -> None:
        """The record goes to whoever is to say that it is done."""
        with self._lock:
            records = self._open.get(at, {})
            if offset in records:
                records[offset] = record

    def processed(self, at: At, offset: int, record: object) -> None:
        """The effects of the record are durable; one that was read anew since stays open."""
        with self._lock:
            records = self._open.get(at, {})
            if records.get(offset) is record:
                del records[offset]

    def committable(self, at: At) -> int | None:
        """The offset that may be committed."""
        with self._lock:
            return min(self._open.get(at, ()), default=self._places.get(at))

    def partitions(self) -> list[At]:
        """Those that have a place."""
        with self._lock:
            return list(self._places)

    def reset(self) -> None:
        """Every partition has lost its place."""
        with self._lock:
            self._places.clear()
            self._open.clear()
