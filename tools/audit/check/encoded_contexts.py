"""Contexts as they were at upload positions, in the Avro encoding of outcomes, made from the uploads' own bytes.

Nothing is decoded: an outcome contains the same strings and numbers as the upload, in the same encoding. A property
test compares the result with the encoded full contexts.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from processors.outcomes.encoded_rows import CAPTURED, encoded_part
from processors.outcomes.encoding import DELETED, EncodedContext, EncodedPart, encode_upload
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.partitioner import partition_for
from tables.upload_batch import UploadBatch
from tables.upload_check import Places, UploadCheck
from tools.audit.check.contexts_as_of import ContextsAsOf, TextReference, Texts, add_text
from tools.audit.check.newest_rows import NO_ROW, NewestRows
from tools.audit.check.upload_rows import AtPositions, Row, UploadRows

STORAGE_ID, SHA256 = (2 * CAPTURED.index(name) for name in ("storage_id", "sha256"))


class AsOf(NamedTuple):
    """A scope's context at some positions, and the earliest append time of the records beyond them."""

    context: EncodedContext | None
    later_ms: int


class EncodedContextsAsOf:
    """The contexts of scopes at any positions; each record is read at most once, and only if it decides.

    check: of the uploads' topics; it captures CAPTURED. The text of every upload that was current in a context is added
    to `texts`, if that is given.
    """

    def __init__(
        self, rows: UploadRows, check: UploadCheck, codec: Codec, texts: Texts | None
    ) -> None:
        self._check = check
        self._partitions = rows.topics.partitions
        self._names = tuple(rows.topics.by_name)
        self._texts = texts
        self._full = ContextsAsOf(rows, codec, texts)
        self._newest = NewestRows(rows)
        # by number of the row: the newest undamaged one of its scope and topic up to there
        self._current: dict[int, EncodedPart | None] = {}

    def as_of(self, wanted: Sequence[AtPositions]) -> list[AsOf]:
        """What was found for each scope key at its positions."""
        newest, later_ms = self._newest.at(wanted)
        self._read_new({number for numbers in newest for number in numbers} - {NO_ROW})
        return [
            AsOf(EncodedContext(*parts) if any(parts) else None, later)
            for parts, later in zip(map(self._parts_of, newest), later_ms, strict=True)
        ]

    def _parts_of(self, numbers: Sequence[int]) -> list[EncodedPart | None]:
        current = self._current
        return [None if number == NO_ROW else current[number] for number in numbers]

    def _read_new(self, numbers: Iterable[int]) -> None:
        """Read the rows with these numbers that were not read before."""
        # in order, so that what was current before a damaged one is known
        new = sorted(number for number in numbers if number not in self._current)
        if not new:
            return
        parts = self._read([self._newest.rows[number] for number in new])
        for number, part in zip(new, parts, strict=True):
            self._current[number] = self._before(number) if part is None else part

    def _before(self, number: int) -> EncodedPart | None:
        """What was current before a damaged record."""
        damaged, part = list[int](), None
        for older in self._newest.older(number):
            if older in self._current:
                part = self._current[older]
                break
            (part,) = self._read([self._newest.rows[older]])
            damaged.append(older)
            if part is not None:
                break
        self._current |= dict.fromkeys(damaged, part)
        return part

    def _read(self, rows: Sequence[Row]) -> Iterator[EncodedPart | None]:
        """The upload or deletion in each record; None for a damaged one."""
        keys, numbers, partitions, offsets, times_ms, values = zip(*rows, strict=True)
        topics = [self._names[number] for number in numbers]
        batch = UploadBatch(topics, partitions, offsets, keys, values, times_ms)
        for row, topic, places in zip(rows, topics, self._check.places(batch), strict=True):
            _, _, partition, offset, _, value = row
            if places is None or value is None:
                yield self._decoded_part(row)
                continue
            part = encoded_part(value, places, topic, partition, offset)
            if self._texts is not None and part is not DELETED:
                text = _text_in(value, places)
                add_text(self._texts, text, Coordinates(topic, partition, offset))
            yield part

    def _decoded_part(self, row: Row) -> EncodedPart | None:
        if partition_for(row[0], self._partitions) != row[2]:
            return None  # it is no upload of the scope, even if only a later release can read it
        component = self._full.newest([row])
        if component is None:
            return None
        return DELETED if component.is_deletion else EncodedPart(False, encode_upload(component))


def _text_in(upload: bytes, places: Places) -> TextReference:
    storage_id, sha256 = (
        upload[places[field] : places[field + 1]].decode() for field in (STORAGE_ID, SHA256)
    )
    return TextReference(storage_id, sha256)
