"""Contexts as they were at upload positions, in the Avro encoding of outcomes, made from the uploads' own bytes.

Nothing is decoded: an outcome contains the same strings and numbers as the upload, in the same encoding. A property
test compares the result with the encoded full contexts.
"""

from bisect import bisect_left
from typing import NamedTuple

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
from tables.history.upload_scan import ScannedScope, UploadScanner, scope_of, text_in
from tools.audit.check.contexts_as_of import ContextsAsOf, TextReference, Texts, add_text
from tools.audit.check.upload_rows import PositionTable, Row, ScopeRows, UploadRows

NO_LATER_RECORD = 2**63


class _Scope(NamedTuple):
    """A scope's records, and what was made of them: `parts` by topic and number of the record, None if it is damaged.

    `contexts` has as keys how many records of each topic are older than the context.
    """

    rows: ScopeRows
    ids: ScannedScope | None
    parts: tuple[dict[int, EncodedPart | None], ...]
    contexts: dict[tuple[int, ...], EncodedContext | None]


class EncodedContextsAsOf:
    """The context of a scope at any positions; each record is read at most once, and only if it decides.

    The text of every upload that was current in a context is added to `texts`, if that is given.
    """

    def __init__(
        self, rows: UploadRows, scanner: UploadScanner, codec: Codec, texts: Texts | None
    ) -> None:
        self._rows = rows
        self._scanner = scanner
        self._names = tuple(rows.topics.by_name)
        self._texts = texts
        self._full = ContextsAsOf(rows, codec, texts)
        self._scopes: dict[bytes, _Scope] = {}

    def as_of(
        self, scope_key: bytes, positions: PositionTable
    ) -> tuple[EncodedContext | None, int]:
        """The scope's context at these positions, and the earliest append time of the records beyond them."""
        scope = self._scopes.get(scope_key)
        if scope is None:
            scope = self._scopes[scope_key] = self._new_scope(scope_key)
        partition, topics, offsets = scope.rows
        key = tuple(map(bisect_left, offsets, positions[partition]))
        later_ms = NO_LATER_RECORD
        for rows, older in zip(topics, key, strict=True):
            if older < len(rows) and rows[older][4] < later_ms:
                later_ms = rows[older][4]
        if key not in scope.contexts:
            newest = [self._newest(scope, number, older) for number, older in enumerate(key)]
            scope.contexts[key] = EncodedContext(*newest) if any(newest) else None
        return scope.contexts[key], later_ms

    def _new_scope(self, scope_key: bytes) -> _Scope:
        rows = self._rows.of(scope_key)
        ids = scope_of(scope_key, self._rows.topics.partitions)
        return _Scope(rows, ids, tuple({} for _ in self._names), {})

    def _newest(self, scope: _Scope, number: int, older: int) -> EncodedPart | None:
        """The newest undamaged one of this many records of a topic."""
        rows, parts = scope.rows.topics[number], scope.parts[number]
        for index in range(older - 1, -1, -1):
            if index not in parts:
                parts[index] = self._part(rows[index], scope.ids)
            if (part := parts[index]) is not None:
                return part
        return None

    def _part(self, row: Row, scope: ScannedScope | None) -> EncodedPart | None:
        _, number, partition, offset, _, value = row
        topic = self._names[number]
        raw = self._scanner.scan_fields(topic, scope, value) if scope else None
        if raw is None:
            return self._decoded_part(row)
        if not raw.storage_id:
            return DELETED
        if self._texts is not None:
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
