"""Contexts as they were at upload positions, in the Avro encoding of outcomes, made from the uploads' own bytes.

Nothing is decoded: an outcome contains the same strings and numbers as the upload, in the same encoding. A property
test compares the result with the encoded full contexts.
"""

from functools import cache

from processors.outcomes.encoding import (
    DELETED,
    EncodedContext,
    EncodedPart,
    encode_upload,
    encode_upload_used,
    uploaded_part,
)
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from tables.history.upload_scan import UploadScanner, scope_of, text_in
from tools.audit.check.contexts_as_of import ContextsAsOf, TextReference, Texts, add_text
from tools.audit.check.upload_rows import PositionTable, Row, UploadRows, index_of

NO_LATER_RECORD = 2**63


class EncodedContextsAsOf:
    """The context of a scope at any positions; each record is read at most once, and only if it decides.

    The text of every upload that was current in a context is added to `texts`.
    """

    def __init__(
        self, rows: UploadRows, scanner: UploadScanner, codec: Codec, texts: Texts
    ) -> None:
        self._rows = rows
        self._scanner = scanner
        self._names = tuple(rows.topics.by_name)
        self._texts = texts
        self._scope_of = cache(lambda key: scope_of(key, rows.topics.partitions))
        self._full = ContextsAsOf(rows, codec, texts)
        self._parts: dict[tuple[object, ...], EncodedPart | None] = {}  # None: damaged

    def as_of(
        self, scope_key: bytes, positions: PositionTable
    ) -> tuple[EncodedContext | None, int]:
        """The scope's context at these positions, and the earliest append time of the records beyond them."""
        (partition, topics), later_ms = self._rows.of(scope_key), NO_LATER_RECORD
        newest = list[EncodedPart | None]()
        for rows, position in zip(topics, positions[partition], strict=True):
            index = index_of(rows, position)
            if index < len(rows):
                later_ms = min(later_ms, rows[index][4])
            newest.append(self._newest(rows, index))
        return EncodedContext(*newest) if any(newest) else None, later_ms

    def _newest(self, rows: list[Row], index: int) -> EncodedPart | None:
        """The newest undamaged record before this index."""
        for before in range(index - 1, -1, -1):
            row = rows[before]
            at = row[1:4]
            part = self._parts[at] if at in self._parts else self._part(row)
            self._parts[at] = part
            if part is not None:
                return part
        return None

    def _part(self, row: Row) -> EncodedPart | None:
        key, number, partition, offset, _, value = row
        topic, scope = self._names[number], self._scope_of(key)
        raw = self._scanner.scan_fields(topic, scope, value) if scope else None
        if raw is None:
            return self._decoded_part(row)
        if not raw.storage_id:
            return DELETED
        storage_id = text_in(raw.storage_id)
        has_sha256_id = raw.sha256 == raw.storage_id  # as every text in our own content store
        text = TextReference(storage_id, storage_id if has_sha256_id else text_in(raw.sha256))
        add_text(self._texts, text, Coordinates(topic, partition, offset))
        used = encode_upload_used(topic, partition, offset, raw.version, raw.event_id, raw.sha256)
        return uploaded_part(used, raw.storage_id, raw.grade_scale, raw.context_origin)

    def _decoded_part(self, row: Row) -> EncodedPart | None:
        component = self._full.newest([row])
        if component is None:
            return None
        return DELETED if component.is_deletion else EncodedPart(False, encode_upload(component))
