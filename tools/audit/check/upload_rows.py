"""The upload records of some scopes, in memory: for each scope and topic, the records in log order.

A record counts only in the partition that belongs to its key: in any other it is never an upload of the scope. `rows`
has them all.
"""

from bisect import bisect_left
from collections.abc import Iterable
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from schemas.partitioner import partition_for
from tables.upload_record import UploadRecord, UploadTopics

Row = tuple[  # record key, number of the topic, partition, offset, append time, value
    bytes, int, int, int, int, bytes | None
]
PositionTable = tuple[tuple[int, ...], ...]  # by partition number and topic number
AtPositions = tuple[bytes, PositionTable]  # a scope key, and positions
OFFSET = itemgetter(3)


class ScopeRows(NamedTuple):
    """The records of one scope: their partition, and of each topic by its number the rows and their offsets."""

    partition: int
    topics: tuple[list[Row], ...]
    offsets: tuple[list[int], ...]


class UploadRows:
    """Rows by scope key; the records of a partition must be added in log order."""

    def __init__(self, topics: UploadTopics) -> None:
        self.topics = topics
        self._numbers = {name: number for number, name in enumerate(topics.by_name)}
        self.rows: list[Row] = []
        self._known: dict[bytes, ScopeRows] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Add records, before any is asked for."""
        self.rows += rows

    @cached_property
    def _by_scope(self) -> dict[bytes, tuple[list[Row], ...]]:
        by_scope: dict[bytes, tuple[list[Row], ...]] = {}
        for row in self.rows:
            of_scope = by_scope.get(row[0])
            if of_scope is None:
                of_scope = by_scope[row[0]] = tuple([] for _ in self._numbers)
            of_scope[row[1]].append(row)
        return by_scope

    def add_records(self, records: Iterable[UploadRecord]) -> None:
        """Add records as the log has them."""
        for record in records:
            at = (self._numbers[record.at.topic], record.at.partition, record.at.offset)
            self.rows.append((record.key or b"", *at, record.appended_at_ms, record.value))

    def of(self, scope_key: bytes) -> ScopeRows:
        """A scope's records."""
        known = self._known.get(scope_key)
        if known is None:
            partition = partition_for(scope_key, self.topics.partitions)
            topics = self._by_scope.get(scope_key, ([],) * len(self._numbers))
            offsets = tuple([row[3] for row in rows if row[2] == partition] for rows in topics)
            if list(map(len, offsets)) != list(map(len, topics)):
                topics = tuple([row for row in rows if row[2] == partition] for rows in topics)
            known = self._known[scope_key] = ScopeRows(partition, topics, offsets)
        return known

    def at(self, scope_key: bytes, at: Coordinates) -> tuple[list[Row], int]:
        """The scope's records in the partition of these coordinates, and how many of them are older."""
        partition, topics, offsets = self.of(scope_key)
        number = self._numbers.get(at.topic)
        if number is None or at.partition != partition:
            return [], 0
        return topics[number], bisect_left(offsets[number], at.offset)


def position_table(positions: Positions, topics: UploadTopics) -> PositionTable:
    """For each partition number, the position in each upload topic. Raises Malformed if a partition is missing."""
    if len(positions) != len(topics.by_name) * topics.partitions:
        raise Malformed(f"positions of {len(positions)} upload partitions")
    try:
        return tuple(
            tuple(positions[Partition(name, number)] for name in topics.by_name)
            for number in range(topics.partitions)
        )
    except KeyError as fault:
        raise Malformed("positions of other upload partitions") from fault
