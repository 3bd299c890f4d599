"""The upload records of some scopes, in memory: of each scope and topic what stood where, in log order.

Only what stands in the partition where its key belongs counts: nothing else is ever an upload of the scope.
"""

from bisect import bisect_left
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from schemas.partitioner import partition_for
from tables.upload_record import UploadRecord, UploadTopics

Row = tuple[
    bytes, int, int, int, int, bytes | None
]  # as in a Stood, behind key, topic's number and partition
Line = list[Row]  # one topic's
OFFSET = itemgetter(3)


class TimelineRecord(NamedTuple):
    """What stands at one offset."""

    offset: int
    appended_at_ms: int
    value: bytes | None


def index_of(line: Line, offset: int) -> int:
    """How many of its records are below that offset."""
    return bisect_left(line, offset, key=OFFSET)


def record_at(line: Line, place: int) -> TimelineRecord:
    """What stands at a place of a line."""
    _, _, _, offset, appended_at_ms, value = line[place]
    return TimelineRecord(offset, appended_at_ms, value)


class Timeline(NamedTuple):
    """The records of one scope: the partition where they belong, and a line for each topic."""

    partition: int
    lines: tuple[Line, ...]


class UploadTimelines:
    """Timelines by scope key. Records of one partition have to come in log order."""

    def __init__(self, topics: UploadTopics) -> None:
        self._partitions = topics.partitions
        self._numbers = {name: number for number, name in enumerate(topics.by_name)}
        self._taken: dict[bytes, tuple[Line, ...]] = {}
        self._known: dict[bytes, Timeline] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Records with their topics' numbers."""
        taken, topics = self._taken, range(len(self._numbers))
        for row in rows:
            lines = taken.get(row[0])
            if lines is None:
                lines = taken[row[0]] = tuple([] for _ in topics)
            lines[row[1]].append(row)

    def add_records(self, records: Iterable[UploadRecord]) -> None:
        """Records as they stand in the log."""
        self.add(map(self._row_of, records))

    def _row_of(self, one: UploadRecord) -> Row:
        at = (self._numbers[one.at.topic], one.at.partition, one.at.offset)
        return (one.key or b"", *at, one.appended_at_ms, one.value)

    def of(self, scope_key: bytes) -> Timeline | None:
        """A scope's timeline; None where it has no records."""
        known = self._known.get(scope_key)
        if known is None and (taken := self._taken.get(scope_key)):
            partition = partition_for(scope_key, self._partitions)
            if {row[2] for line in taken for row in line} != {partition}:
                taken = tuple([row for row in line if row[2] == partition] for line in taken)
            known = self._known[scope_key] = Timeline(partition, taken)
        return known

    def beside(
        self, topic: str, scope_key: bytes, offset: int
    ) -> tuple[TimelineRecord | None, TimelineRecord | None]:
        """The newest record of a scope below an offset, and the first one that is not."""
        known = self.of(scope_key)
        if known is None:
            return None, None
        line = known.lines[self._numbers[topic]]
        place = index_of(line, offset)
        below = record_at(line, place - 1) if place else None
        return below, record_at(line, place) if place < len(line) else None
