"""Contexts as they stood at upload positions, from the upload records themselves. Pure but for what it is lent.

Only the records that decide are decoded: per role the newest below the position that is an upload at all. The plain
fold over every record below the positions gives the same; a property test holds both equal.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from schemas.codec import Codec
from schemas.errors import Malformed
from schemas.events import ROLES, AssignmentContext, Coordinates, UploadEvent
from schemas.partitioner import partition_for
from tables.context import apply, live
from tables.replica import Partition, Positions
from tables.uploads import UploadRecord, UploadTopics, read_upload

SCOPES = 10_000  # kept, with their records


class Text(NamedTuple):
    """A text as an upload names it."""

    storage_id: str
    sha256: str


Texts = dict[Text, Coordinates]  # with the upload that was first seen to name it


class Uploads(Protocol):
    """Upload records by key; the index is one."""

    def of(self, topic: str, scope_key: str) -> Iterable[UploadRecord]:
        """Every record of a key in log order."""


class History:
    """The records of one scope in one upload topic, in log order, decoded when they are asked for."""

    def __init__(self, records: list[UploadRecord], codec: Codec, topics: UploadTopics) -> None:
        self.offsets = [record.at.offset for record in records]
        self._records = records
        self._events: dict[int, UploadEvent | None] = {}
        self._codec = codec
        self._topics = topics

    def event(self, index: int) -> UploadEvent | None:
        """The upload that a record is; None for a damaged one. Raises UnknownSchema."""
        if index not in self._events:
            try:
                found = read_upload(self._records[index], self._codec, self._topics)
            except Malformed:
                found = None
            self._events[index] = found
        return self._events[index]

    def current(self, position: int) -> int:
        """Which record is the newest upload below a position; -1 where there is none."""
        index = bisect_left(self.offsets, position) - 1
        while index >= 0 and self.event(index) is None:
            index -= 1
        return index

    def first_after(self, position: int) -> UploadRecord | None:
        """The first upload at a position or later."""
        for index in range(bisect_left(self.offsets, position), len(self.offsets)):
            if self.event(index) is not None:
                return self._records[index]
        return None

    def is_settled(self, position: int, by_ms: int) -> bool:
        """Whether the first record at the position or later, damaged or not, was not appended before that time."""
        index = bisect_left(self.offsets, position)
        return index == len(self.offsets) or self._records[index].appended_at_ms >= by_ms

    def record(self, index: int) -> UploadRecord:
        """One of the records."""
        return self._records[index]

    def begins_after(self, at: Coordinates) -> bool:
        """Whether only later records of the scope are left: compaction takes the older ones first."""
        return bool(self._records) and at < self._records[0].at and _same(at, self._records[0].at)

    def find(self, at: Coordinates) -> int | None:
        """Which of the records stands there."""
        index = bisect_left(self.offsets, at.offset)
        stands = index < len(self.offsets) and self._records[index].at == at
        return index if stands else None


def _same(one: Coordinates, other: Coordinates) -> bool:
    return (one.topic, one.partition) == (other.topic, other.partition)


class Scope:
    """One scope's histories by role, and the contexts that were made of them."""

    def __init__(self, partition: int, histories: tuple[History, ...]) -> None:
        self.partition = partition
        self.histories = histories
        self.told: AssignmentContext | None = None  # the context whose texts were told last
        self._contexts: dict[tuple[int, ...], AssignmentContext | None] = {(-1, -1, -1): None}

    def context(self, below: tuple[int, ...]) -> AssignmentContext | None:
        """The context of the uploads below these positions; the same object for as long as they are the same."""
        current = tuple(
            history.current(position)
            for history, position in zip(self.histories, below, strict=True)
        )
        if current not in self._contexts:
            self._contexts[current] = self._folded(current)
        return self._contexts[current]

    def _folded(self, current: tuple[int, ...]) -> AssignmentContext | None:
        context = None
        for history, index in zip(self.histories, current, strict=True):
            event = history.event(index) if index >= 0 else None
            if event is not None:
                record = history.record(index)
                context = apply(context, event, record.at, record.appended_at_ms)
        return context


class ContextsAsOf:
    """What was known of any scope at the positions where this stands. Holds at most so many scopes' records.

    texts are told the text of every upload that was current in a context, and that upload.
    """

    def __init__(
        self, uploads: Uploads, codec: Codec, topics: UploadTopics, texts: Texts, most: int = SCOPES
    ) -> None:
        self._uploads = uploads
        self._texts = texts
        self._most = most
        self._codec = codec
        self._topics = topics
        self._scopes: dict[str, Scope] = {}
        self._below: list[tuple[int, ...]] = [(0, 0, 0)] * topics.partitions

    def stand_at(self, positions: Positions) -> None:
        """Be asked for contexts at these positions from now on. Raises Malformed where a partition lacks."""
        wanted = {Partition(name, one) for name in self._topics.by_name for one in self._numbers}
        if positions.keys() != wanted:
            raise Malformed(f"positions of {len(positions)} upload partitions, not {len(wanted)}")
        self._below = [
            tuple(positions[Partition(name, one)] for name in self._topics.by_name)
            for one in self._numbers
        ]

    @property
    def _numbers(self) -> range:
        return range(self._topics.partitions)

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The scope's context; the same object for as long as it is the same and kept."""
        scope = self.scope(scope_key)
        context = scope.context(self._below[scope.partition])
        if context is not None and context is not scope.told:
            scope.told = context
            self._tell(context)
        return context

    def _tell(self, context: AssignmentContext) -> None:
        for role in ROLES:
            one = live(context, role)
            if one is not None and one.storage_id is not None and one.sha256 is not None:
                is_same = one.sha256 == one.storage_id
                text = Text(one.storage_id, one.storage_id if is_same else one.sha256)
                self._texts.setdefault(text, one.source)

    def scope(self, scope_key: str) -> Scope:
        """The scope's records, from memory or read anew."""
        known = self._scopes.get(scope_key)
        if known is None:
            if len(self._scopes) >= self._most:
                self._scopes.clear()
            known = self._scopes[scope_key] = self._read(scope_key)
        return known

    def _read(self, scope_key: str) -> Scope:
        belongs = partition_for(scope_key.encode(), self._topics.partitions)
        return Scope(
            belongs,
            tuple(
                History(
                    [
                        one
                        for one in self._uploads.of(name, scope_key)
                        if one.at.partition == belongs
                    ],
                    self._codec,
                    self._topics,
                )
                for name in self._topics.by_name
            ),
        )

    def is_settled(self, scope_key: str, by_ms: int) -> bool:
        """Whether no record of the scope that was appended before that time stands at the positions or later."""
        scope = self.scope(scope_key)
        return all(
            history.is_settled(position, by_ms)
            for history, position in zip(scope.histories, self._below[scope.partition], strict=True)
        )

    def first_after(self, scope_key: str) -> list[UploadRecord]:
        """Of each role the first upload that the positions do not cover, where there is one."""
        scope = self.scope(scope_key)
        later = (
            history.first_after(position)
            for history, position in zip(scope.histories, self._below[scope.partition], strict=True)
        )
        return [record for record in later if record is not None]

    def history(self, scope_key: str, role: str) -> History:
        """The scope's records of one role."""
        return self.scope(scope_key).histories[ROLES.index(role)]
