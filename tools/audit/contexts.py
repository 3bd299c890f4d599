"""Contexts as they stood at upload positions, from the upload records themselves. Pure but for what it is lent.

Only the records that decide are read: per role the newest below the position that is an upload at all. The plain
fold over every record below the positions gives the same; a property test holds both equal.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from schemas.codec import Codec
from schemas.errors import Malformed
from schemas.events import ROLES, AssignmentContext, Component, Coordinates, UploadEvent
from schemas.partitioner import partition_for
from tables.context import FOLD_VERSION, component_from
from tables.glance import Glance, Scope, scope_of
from tables.replica import Partition, Positions
from tables.uploads import UploadRecord, UploadTopics, read_upload

SCOPES = 20_000  # kept, about four kilobytes each
NEVER = 2**63


class Text(NamedTuple):
    """A text as an upload names it."""

    storage_id: str
    sha256: str


Texts = dict[Text, Coordinates]  # with the upload that was first seen to name it


class Uploads(Protocol):
    """Upload records by key, each of the partition where the key belongs; the index is one."""

    def beside(
        self, topic: str, scope_key: str, offset: int
    ) -> tuple[UploadRecord | None, UploadRecord | None]:
        """The newest record of a key below an offset, and the first one that is not."""


class Stretch(NamedTuple):
    """A scope's context, and between which of its records it stands: per role after the one, not after the other."""

    context: AssignmentContext | None
    partition: int
    after: tuple[int, ...]
    until: tuple[int, ...]
    followed_ms: int  # when the first of the records that end it was appended

    def covers(self, below: tuple[int, ...]) -> bool:
        """Whether it is the context at these positions."""
        (a, b, c), (d, e, f), (x, y, z) = self.after, self.until, below
        return a < x <= d and b < y <= e and c < z <= f


class ContextsAsOf:
    """What was known of any scope at the positions where this stands. Holds at most so many scopes' contexts.

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
        self._glance = Glance(codec, topics)
        self._known: dict[str, Stretch] = {}
        self._below: list[tuple[int, ...]] = [(0, 0, 0)] * topics.partitions

    def stand_at(self, positions: Positions) -> None:
        """Be asked for contexts at these positions from now on. Raises Malformed where a partition lacks."""
        numbers = range(self._topics.partitions)
        wanted = {Partition(name, one) for name in self._topics.by_name for one in numbers}
        if positions.keys() != wanted:
            raise Malformed(f"positions of {len(positions)} upload partitions, not {len(wanted)}")
        self._below = [
            tuple(positions[Partition(name, one)] for name in self._topics.by_name)
            for one in numbers
        ]

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The scope's context; the same object for as long as no record of it comes between, and it is kept."""
        return self._stretch(scope_key).context

    def is_settled(self, scope_key: str, by_ms: int) -> bool:
        """Whether no record of the scope that was appended before that time stands at the positions or later."""
        return self._stretch(scope_key).followed_ms >= by_ms

    def _stretch(self, scope_key: str) -> Stretch:
        known = self._known.get(scope_key)
        if known is None or not known.covers(self._below[known.partition]):
            if len(self._known) >= self._most:
                self._known.clear()
            known = self._known[scope_key] = self._read(scope_key)
        return known

    def _read(self, scope_key: str) -> Stretch:
        key = scope_key.encode()
        partition = partition_for(key, self._topics.partitions)
        scope = scope_of(key, self._topics.partitions)
        after, until, followed_ms = list[int](), list[int](), NEVER
        components = dict[str, Component]()
        for role, topic, position in zip(
            ROLES, self._topics.by_name, self._below[partition], strict=True
        ):
            before, behind = self._uploads.beside(topic, scope_key, position)
            after.append(before.at.offset if before else -1)
            until.append(behind.at.offset if behind else NEVER)
            if behind:
                followed_ms = min(followed_ms, behind.appended_at_ms)
            component = self._newest(scope, scope_key, before)
            if component is not None:
                components[role] = component
                self._tell(component)
        context = None
        if components:
            context = AssignmentContext(
                scope_key=scope_key, fold_version=FOLD_VERSION, **components
            )
        return Stretch(context, partition, tuple(after), tuple(until), followed_ms)

    def _newest(
        self, scope: Scope | None, scope_key: str, record: UploadRecord | None
    ) -> Component | None:
        """What the newest upload of a key says, this record or an older one."""
        while record is not None:
            component = self._component(scope, record)
            if component is not None:
                return component
            record, _ = self._uploads.beside(record.at.topic, scope_key, record.at.offset)
        return None

    def _component(self, scope: Scope | None, record: UploadRecord) -> Component | None:
        """What a record says; None for one that is no upload. Raises UnknownSchema."""
        if scope and (found := self._glance.component(scope, record)):
            return found
        event = self.upload(record)
        return event and component_from(event, record.at, record.appended_at_ms)

    def upload(self, record: UploadRecord) -> UploadEvent | None:
        """The upload that a record is; None for a damaged one. Raises UnknownSchema."""
        try:
            return read_upload(record, self._codec, self._topics)
        except Malformed:
            return None

    def _tell(self, one: Component) -> None:
        if not one.is_deletion and one.storage_id is not None and one.sha256 is not None:
            is_same = one.sha256 == one.storage_id
            text = Text(one.storage_id, one.storage_id if is_same else one.sha256)
            self._texts.setdefault(text, one.source)

    def first_after(self, scope_key: str) -> Iterable[UploadRecord]:
        """Of each role the first upload that the positions do not cover, where there is one."""
        belongs = partition_for(scope_key.encode(), self._topics.partitions)
        for topic, position in zip(self._topics.by_name, self._below[belongs], strict=True):
            _, record = self._uploads.beside(topic, scope_key, position)
            while record is not None and self.upload(record) is None:
                _, record = self._uploads.beside(topic, scope_key, record.at.offset + 1)
            if record is not None:
                yield record

    def record(self, scope_key: str, at: Coordinates) -> UploadRecord | None:
        """The scope's record that stands there; None where there is none, or where the scope does not belong."""
        if at.topic not in self._topics.by_name:
            return None
        _, record = self._uploads.beside(at.topic, scope_key, at.offset)
        return record if record is not None and record.at == at else None

    def is_before_all(self, scope_key: str, at: Coordinates) -> bool:
        """Whether only later records of the scope are left: compaction takes the older ones first."""
        if at.topic not in self._topics.by_name:
            return False
        before, behind = self._uploads.beside(at.topic, scope_key, at.offset)
        return (
            before is None
            and behind is not None
            and behind.at > at
            and behind.at.partition == at.partition
        )
