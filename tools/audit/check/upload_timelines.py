"""The upload records of some scopes, in memory: for each scope and topic, the records in log order.

A record counts only in the partition that belongs to its key: in any other it is never an upload of the scope.
"""

from bisect import bisect_left
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from schemas.partitioner import partition_for
from tables.upload_record import UploadRecord, UploadTopics

Row = tuple[  # the key, the topic's number, the partition, and then the fields of TimelineRecord
    bytes, int, int, int, int, bytes | None
]
TopicRows = list[Row]  # of one scope in one topic, in log order
OFFSET = itemgetter(3)


class TimelineRecord(NamedTuple):
    """The record at one offset."""

    offset: int
    appended_at_ms: int
    value: bytes | None


def index_of(rows: TopicRows, offset: int) -> int:
    """The number of records below that offset."""
    return bisect_left(rows, offset, key=OFFSET)


def record_at(rows: TopicRows, index: int) -> TimelineRecord:
    """The record at this index."""
    _, _, _, offset, appended_at_ms, value = rows[index]
    return TimelineRecord(offset, appended_at_ms, value)


class Timeline(NamedTuple):
    """The records of one scope: their partition, and the rows of each topic by its number."""

    partition: int
    topics: tuple[TopicRows, ...]


class UploadTimelines:
    """Timelines by scope key; the records of a partition must be added in log order."""

    def __init__(self, topics: UploadTopics) -> None:
        self._partitions = topics.partitions
        self._numbers = {name: number for number, name in enumerate(topics.by_name)}
        self._added: dict[bytes, tuple[TopicRows, ...]] = {}
        self._known: dict[bytes, Timeline] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Add records as rows, each with its topic's number."""
        added, topics = self._added, range(len(self._numbers))
        for row in rows:
            of_scope = added.get(row[0])
            if of_scope is None:
                of_scope = added[row[0]] = tuple([] for _ in topics)
            of_scope[row[1]].append(row)

    def add_records(self, records: Iterable[UploadRecord]) -> None:
        """Add records as the log has them."""
        self.add(map(self._row_of, records))

    def _row_of(self, record: UploadRecord) -> Row:
        at = (self._numbers[record.at.topic], record.at.partition, record.at.offset)
        return (record.key or b"", *at, record.appended_at_ms, record.value)

    def of(self, scope_key: bytes) -> Timeline | None:
        """A scope's timeline; None if it has no records."""
        known = self._known.get(scope_key)
        if known is None and (topics := self._added.get(scope_key)):
            partition = partition_for(scope_key, self._partitions)
            if {row[2] for rows in topics for row in rows} != {partition}:
                topics = tuple([row for row in rows if row[2] == partition] for rows in topics)
            known = self._known[scope_key] = Timeline(partition, topics)
        return known

    def neighbours(
        self, topic: str, scope_key: bytes, offset: int
    ) -> tuple[TimelineRecord | None, TimelineRecord | None]:
        """The scope's newest record below an offset, and its first record at or beyond it."""
        known = self.of(scope_key)
        if known is None:
            return None, None
        rows = known.topics[self._numbers[topic]]
        index = index_of(rows, offset)
        below = record_at(rows, index - 1) if index else None
        return below, record_at(rows, index) if index < len(rows) else None
