"""Contexts as they were at upload positions, from the upload records themselves.

Only the deciding records are read: for each role, the newest one below the position that is a valid upload. The plain
fold of every record below the positions gives the same contexts; a property test compares the two.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Positions
from schemas.errors import Malformed
from schemas.events import ROLES, AssignmentContext, Component, UploadEvent
from tables.context import FOLD_VERSION, component_from
from tables.upload_record import UploadRecord, read_upload
from tools.audit.check.upload_rows import (
    OFFSET,
    PositionTable,
    Row,
    UploadRows,
    position_table,
)


class TextReference(NamedTuple):
    """A text as an upload names it."""

    storage_id: str
    sha256: str


Texts = dict[  # with the first upload that names the text, in the order of coordinates
    TextReference, Coordinates
]


def add_text(texts: Texts, text: TextReference, at: Coordinates) -> None:
    """Add a text that the upload at these coordinates names; the order of the calls does not matter."""
    known = texts.get(text)
    if known is None or at < known:
        texts[text] = at


class UploadAt(NamedTuple):
    """An upload, read and checked, with its coordinates."""

    event: UploadEvent
    at: Coordinates
    appended_at_ms: int


class ContextsAsOf:
    """The context of any scope as of the positions set last. Every method can raise UnknownSchema.

    The text of every upload that was current in a context is added to `texts`, if that is given.
    """

    def __init__(self, rows: UploadRows, codec: Codec, texts: Texts | None) -> None:
        self._rows = rows
        self._codec = codec
        self._names = tuple(rows.topics.by_name)
        self._texts = texts
        self._positions: PositionTable = ((0,) * len(self._names),) * rows.topics.partitions

    def set_positions(self, positions: Positions) -> None:
        """Use these positions from now on. Raises Malformed if a partition is missing."""
        self._positions = position_table(positions, self._rows.topics)

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The scope's context."""
        components = dict[str, Component]()
        for role, (older, _) in zip(ROLES, self._split(scope_key), strict=True):
            if (component := self.newest(older)) is not None:
                components[role] = component
        if not components:
            return None
        return AssignmentContext(scope_key=scope_key, fold_version=FOLD_VERSION, **components)

    def newest(self, rows: list[Row]) -> Component | None:
        """The component of the last valid upload of these, whose text is added."""
        upload = self._first_valid(reversed(rows))
        component = upload and component_from(*upload)
        if (
            self._texts is not None
            and component
            and component.storage_id is not None
            and component.sha256 is not None
        ):
            text = TextReference(component.storage_id, component.sha256)
            add_text(self._texts, text, component.source)
        return component

    def first_beyond(self, scope_key: str) -> Iterator[UploadAt]:
        """For each role, the scope's first upload at or beyond the positions, if there is one."""
        for _, later in self._split(scope_key):
            if upload := self._first_valid(later):
                yield upload

    def upload(self, scope_key: str, at: Coordinates) -> UploadAt | None:
        """The scope's upload at these coordinates; ignores the positions."""
        rows, older = self._rows.at(scope_key.encode(), at)
        upload = self._first_valid(rows[older : older + 1])
        return upload if upload and upload.at == at else None

    def has_only_later(self, scope_key: str, at: Coordinates) -> bool:
        """Whether the scope has only records after these coordinates: compaction removes the older ones first."""
        rows, _ = self._rows.at(scope_key.encode(), at)
        return bool(rows) and OFFSET(rows[0]) > at.offset

    def _split(self, scope_key: str) -> Iterator[tuple[list[Row], list[Row]]]:
        """For each upload topic, the scope's records below the position, and those at or beyond it."""
        partition, topics, offsets = self._rows.of(scope_key.encode())
        for rows, at, position in zip(topics, offsets, self._positions[partition], strict=True):
            index = bisect_left(at, position)
            yield rows[:index], rows[index:]

    def _first_valid(self, rows: Iterable[Row]) -> UploadAt | None:
        return next(filter(None, map(self._read, rows)), None)

    def _read(self, row: Row) -> UploadAt | None:
        """The upload in a record; None if the record is damaged."""
        key, topic, partition, offset, appended_at_ms, value = row
        at = Coordinates(self._names[topic], partition, offset)
        record = UploadRecord(at, key, value, appended_at_ms)
        try:
            event = read_upload(record, self._codec, self._rows.topics)
        except Malformed:
            return None
        return UploadAt(event, at, appended_at_ms)
