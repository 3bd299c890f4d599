"""Contexts as they were at upload positions, in the Avro encoding of outcomes, made from the uploads' own bytes.

Nothing is decoded: an outcome contains the same strings and numbers as the upload, in the same encoding. A property
test compares the result with the encoded full contexts.
"""

from typing import NamedTuple

from processors.outcomes.encoding import (
    NOTHING,
    NULL,
    PRESENT,
    EncodedRoles,
    EncodedUpload,
    encode_upload,
    encode_upload_used,
)
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from tables.context import component_from
from tables.history.upload_scan import ScannedScope, ScannedUpload, UploadScanner, scope_of, text_in
from tables.upload_record import UploadTopics
from tools.audit.check.contexts_as_of import TextReference, Texts, add_component, add_text
from tools.audit.check.upload_timelines import (
    Timeline,
    TimelineRecord,
    UploadTimelines,
    index_of,
    record_at,
)
from tools.audit.check.uploads_as_of import PositionTable, upload_of

NO_LATER_RECORD = 2**63


class EncodedPart(NamedTuple):
    """One role's newest upload or deletion."""

    is_deletion: bool
    encoded: EncodedUpload


class EncodedContext(NamedTuple):
    """A scope's context, role by role."""

    instructions: EncodedPart | None
    student_prompt: EncodedPart | None
    judge_rubric: EncodedPart | None


DELETED = EncodedPart(is_deletion=True, encoded=NOTHING)


def encoded_roles(context: EncodedContext) -> EncodedRoles:
    """The encoding of a context in an outcome."""
    return EncodedRoles(*(NOTHING if part is None else part.encoded for part in context))


class _Read(NamedTuple):
    """A scope's timeline, and the parts read from it so far."""

    scope_key: bytes
    scope: ScannedScope | None
    timeline: Timeline
    parts: dict[  # by topic number and index; None for a damaged record
        tuple[int, int], EncodedPart | None
    ]


class EncodedContextsAsOf:
    """The context of a scope at any positions; each record is read at most once, and only if it decides.

    The text of every upload that was current in a context is added to `texts`.
    """

    def __init__(
        self,
        timelines: UploadTimelines,
        scanner: UploadScanner,
        codec: Codec,
        topics: UploadTopics,
        texts: Texts,
    ) -> None:
        self._timelines = timelines
        self._scanner = scanner
        self._codec = codec
        self._topics = topics
        self._names = tuple(topics.by_name)
        self._texts = texts
        self._known: dict[bytes, _Read | None] = {}

    def as_of(
        self, scope_key: bytes, positions: PositionTable
    ) -> tuple[EncodedContext | None, int]:
        """The scope's context at these positions, and the earliest append time of the records beyond them, or NEVER."""
        try:
            known = self._known[scope_key]
        except KeyError:
            known = self._known[scope_key] = self._load(scope_key)
        if known is None:
            return None, NO_LATER_RECORD
        (partition, topics), followed_ms = known.timeline, NO_LATER_RECORD
        newest = list[EncodedPart | None]()
        for number, position in enumerate(positions[partition]):
            rows = topics[number]
            index = index_of(rows, position)
            if index < len(rows):
                followed_ms = min(followed_ms, rows[index][4])
            newest.append(self._newest(known, number, index) if index else None)
        return EncodedContext(*newest) if any(newest) else None, followed_ms

    def _load(self, scope_key: bytes) -> _Read | None:
        timeline = self._timelines.of(scope_key)
        if timeline is None:
            return None
        return _Read(scope_key, scope_of(scope_key, self._topics.partitions), timeline, {})

    def _newest(self, known: _Read, number: int, index: int) -> EncodedPart | None:
        """The topic's newest undamaged record before this index."""
        for before in range(index - 1, -1, -1):
            place = (number, before)
            if place in known.parts:
                part = known.parts[place]
            else:
                record = record_at(known.timeline.topics[number], before)
                part = known.parts[place] = self._part(known, number, record)
            if part is not None:
                return part
        return None

    def _part(self, known: _Read, number: int, record: TimelineRecord) -> EncodedPart | None:
        topic = self._names[number]
        raw = self._scanner.scan_fields(topic, known.scope, record.value) if known.scope else None
        at = Coordinates(topic, known.timeline.partition, record.offset)
        if raw is None:
            return self._part_in_full(known.scope_key, at, record)
        if raw.is_deletion:
            return DELETED
        storage_id = text_in(raw.storage_id)
        has_sha256_id = raw.sha256 == raw.storage_id  # as every text in our own content store
        text = TextReference(storage_id, storage_id if has_sha256_id else text_in(raw.sha256))
        add_text(self._texts, text, at)
        return EncodedPart(is_deletion=False, encoded=_encoded(raw, at))

    def _part_in_full(
        self, scope_key: bytes, at: Coordinates, record: TimelineRecord
    ) -> EncodedPart | None:
        upload = upload_of(scope_key, at, record, self._codec, self._topics)
        if upload is None:
            return None
        component = component_from(*upload)
        if component.is_deletion:
            return DELETED
        add_component(self._texts, component)
        return EncodedPart(is_deletion=False, encoded=encode_upload(component))


def _encoded(raw: ScannedUpload, at: Coordinates) -> EncodedUpload:
    return EncodedUpload(
        encode_upload_used(
            at.topic, at.partition, at.offset, raw.version, raw.event_id, raw.sha256
        ),
        PRESENT + raw.storage_id,
        PRESENT + raw.grade_scale if raw.grade_scale else NULL,
        PRESENT + raw.context_origin if raw.context_origin else NULL,
    )
