"""Tracks where each partition of the fold's consumer is read next, and which offset may be committed.

Invariant: every record below an offset that `committable` returns is processed, or was never to be delivered (a
marker, aborted, compacted away). A partition is tracked from its committed offset on: every record below that is
processed. What a fetch returns from there on is unprocessed until `processed` is called. `reset` ends the tracking,
which starts again at the committed offset: whatever happened to the records in between, they are read again.

What is tracked is named by an offset: a record, or a chunk of records by the first one that is not processed.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

PartitionT = TypeVar("PartitionT", bound=tuple[str, int])  # topic and partition


class OffsetTracker(Generic[PartitionT]):
    """The next fetch position and the unprocessed records of each partition; safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._positions: dict[PartitionT, int] = {}
        # from the fetch until it is processed: None until it is delivered
        self._unprocessed: dict[PartitionT, dict[int, object]] = {}

    def without_position(self, partitions: Iterable[PartitionT]) -> list[PartitionT]:
        """The partitions whose next fetch position is unknown. Call before each fetch, when the last one was delivered.

        A partition loses its position if records of its last fetch were not all delivered.
        """
        with self._lock:
            for partition in [
                partition
                for partition, records in self._unprocessed.items()
                if None in records.values()
            ]:
                del self._positions[partition], self._unprocessed[partition]
            return [partition for partition in partitions if partition not in self._positions]

    def start_at(self, partition: PartitionT, committed: int) -> None:
        """Start at the committed offset, below which every record is processed."""
        with self._lock:
            self._positions[partition] = committed
            self._unprocessed[partition] = {}

    def fetch_positions(self, partitions: Iterable[PartitionT]) -> dict[PartitionT, int]:
        """The position at which a fetch must start; a partition that is missing here must not be fetched."""
        with self._lock:
            return {
                partition: self._positions[partition]
                for partition in partitions
                if partition in self._positions
            }

    def fetched(self, partition: PartitionT, start: int, offsets: Sequence[int], end: int) -> bool:
        """Note the offsets that a fetch returned and where it ended; False if its records must not be delivered."""
        with self._lock:
            if self._positions.get(partition) != start:
                return False
            self._positions[partition] = end
            self._unprocessed[partition].update(dict.fromkeys(offsets))
            return True

    def delivered(self, partition: PartitionT, offset: int, record: object) -> None:
        """Note that the record is passed to the code that will call `processed` for it."""
        with self._lock:
            records = self._unprocessed.get(partition, {})
            if offset in records:
                records[offset] = record

    def processed(self, partition: PartitionT, offset: int, record: object) -> None:
        """Note that the record's effects are durable; a record that was read again since stays unprocessed."""
        with self._lock:
            records = self._unprocessed.get(partition, {})
            if records.get(offset) is record:
                del records[offset]

    def partly_processed(
        self, partition: PartitionT, offset: int, record: object, next_offset: int
    ) -> None:
        """Note that a chunk's records below `next_offset` are processed; that is its offset from now on."""
        with self._lock:
            records = self._unprocessed.get(partition, {})
            if records.get(offset) is record:
                del records[offset]
                records[next_offset] = record

    def committable(self, partition: PartitionT) -> int | None:
        """The offset that may be committed; None if the position is unknown."""
        with self._lock:
            return min(self._unprocessed.get(partition, ()), default=self._positions.get(partition))

    def partitions(self) -> list[PartitionT]:
        """The partitions whose position is known."""
        with self._lock:
            return list(self._positions)

    def reset(self) -> None:
        """Forget the position of every partition."""
        with self._lock:
            self._positions.clear()
            self._unprocessed.clear()
