"""Contexts as they stood at upload positions, as far as outcomes tell them: in Avro, from the uploads' own bytes.

Nothing is decoded on the way from an upload to what an outcome tells of it, for both have the same texts and numbers.
A property test holds this equal to what the full contexts tell.
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
from tools.audit.check.contexts_as_of import TextReference, Texts, add_component, note
from tools.audit.check.upload_timelines import (
    Timeline,
    TimelineRecord,
    UploadTimelines,
    index_of,
    record_at,
)
from tools.audit.check.uploads_as_of import Below, upload_of

NEVER = 2**63


class EncodedPart(NamedTuple):
    """One role's newest upload or deletion."""

    is_deletion: bool
    told: EncodedUpload


class EncodedContext(NamedTuple):
    """A scope's context."""

    instructions: EncodedPart | None
    student_prompt: EncodedPart | None
    judge_rubric: EncodedPart | None


DELETED = EncodedPart(is_deletion=True, told=NOTHING)


def encoded_roles(context: EncodedContext) -> EncodedRoles:
    """What outcomes tell of it."""
    return EncodedRoles(*(NOTHING if part is None else part.told for part in context))


class _Read(NamedTuple):
    """A scope's timeline, and what has been read of it."""

    scope_key: bytes
    scope: ScannedScope | None
    timeline: Timeline
    parts: dict[
        tuple[int, int], EncodedPart | None
    ]  # by topic and place; None for a damaged record


class EncodedContextsAsOf:
    """What was known of a scope at any positions. Each record is read once, and only if it decides.

    texts are told the text of every upload that was current in a context, and that upload.
    """

    def __init__(
        self,
        timelines: UploadTimelines,
        glance: UploadScanner,
        codec: Codec,
        topics: UploadTopics,
        texts: Texts,
    ) -> None:
        self._timelines = timelines
        self._glance = glance
        self._codec = codec
        self._topics = topics
        self._names = tuple(topics.by_name)
        self._texts = texts
        self._known: dict[bytes, _Read | None] = {}

    def as_of(self, scope_key: bytes, below: Below) -> tuple[EncodedContext | None, int]:
        """The scope's context at these positions, and when the first record beyond them was appended, or NEVER."""
        try:
            known = self._known[scope_key]
        except KeyError:
            known = self._known[scope_key] = self._opened(scope_key)
        if known is None:
            return None, NEVER
        (partition, lines), followed_ms = known.timeline, NEVER
        newest = list[EncodedPart | None]()
        for number, position in enumerate(below[partition]):
            line = lines[number]
            place = index_of(line, position)
            if place < len(line):
                followed_ms = min(followed_ms, line[place][4])
            newest.append(self._newest(known, number, place) if place else None)
        return EncodedContext(*newest) if any(newest) else None, followed_ms

    def _opened(self, scope_key: bytes) -> _Read | None:
        timeline = self._timelines.of(scope_key)
        if timeline is None:
            return None
        return _Read(scope_key, scope_of(scope_key, self._topics.partitions), timeline, {})

    def _newest(self, known: _Read, number: int, place: int) -> EncodedPart | None:
        """The newest of the topic's records before that place that is no damaged one."""
        for before in range(place - 1, -1, -1):
            at = (number, before)
            if at in known.parts:
                part = known.parts[at]
            else:
                stood = record_at(known.timeline.lines[number], before)
                part = known.parts[at] = self._part(known, number, stood)
            if part is not None:
                return part
        return None

    def _part(self, known: _Read, number: int, stood: TimelineRecord) -> EncodedPart | None:
        topic = self._names[number]
        raw = self._glance.scan_fields(topic, known.scope, stood.value) if known.scope else None
        at = Coordinates(topic, known.timeline.partition, stood.offset)
        if raw is None:
            return self._part_in_full(known.scope_key, at, stood)
        if raw.is_deletion:
            return DELETED
        storage_id = text_in(raw.storage_id)
        is_its_sum = raw.sha256 == raw.storage_id  # so it is in our own content store
        text = TextReference(storage_id, storage_id if is_its_sum else text_in(raw.sha256))
        note(self._texts, text, at)
        return EncodedPart(is_deletion=False, told=_encoded(raw, at))

    def _part_in_full(
        self, scope_key: bytes, at: Coordinates, stood: TimelineRecord
    ) -> EncodedPart | None:
        upload = upload_of(scope_key, at, stood, self._codec, self._topics)
        if upload is None:
            return None
        one = component_from(*upload)
        if one.is_deletion:
            return DELETED
        add_component(self._texts, one)
        return EncodedPart(is_deletion=False, told=encode_upload(one))


def _encoded(raw: ScannedUpload, at: Coordinates) -> EncodedUpload:
    return EncodedUpload(
        encode_upload_used(
            at.topic, at.partition, at.offset, raw.version, raw.event_id, raw.sha256
        ),
        PRESENT + raw.storage_id,
        PRESENT + raw.grade_scale if raw.grade_scale else NULL,
        PRESENT + raw.context_origin if raw.context_origin else NULL,
    )
