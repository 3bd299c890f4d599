"""`cjstream uploads send` and `requests send`: append events from files, for producers other than the API.

Every line is checked, and every event is created, before the first event is sent.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import compress
from time import time_ns
from typing import Any, Literal
from uuid import uuid4

from confluent_kafka import Message, Producer

from processors.kafka.clients import admin_client, plain_producer
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record, coordinates_of
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.log.set_aside import upload_topics_with_set_aside
from processors.log.upload_topics import upload_of
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from schemas.events import (
    ROLES,
    AssignmentContext,
    CJAssessmentRequested,
    Component,
    UploadEvent,
)
from schemas.field_limits import check_limits
from schemas.partitioner import partition_for
from schemas.topics import MAX_REQUEST_BYTES
from tables.commands import DELETION_EVENTS, UPLOAD_EVENTS
from tables.content_store import PLAIN_TEXT, ContentStore
from tables.context import component_of, fold, live
from tables.upload_record import read_upload
from tools.inputs import GivenUpload, read_requests, read_uploads
from tools.progress import bar, say

Rows = dict[str, AssignmentContext]
Outcome = Literal["appended", "unchanged", "exists"]


@dataclass(frozen=True, slots=True)
class SentUpload:
    """An upload or deletion that the broker acknowledged, or that was not sent: then `at` is None."""

    scope_key: str
    role: str
    event_type: str
    event_id: str
    version: int
    storage_id: str | None
    outcome: Outcome
    at: Coordinates | None


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A CJ request that the broker acknowledged."""

    batch_id: str
    event_id: str
    at: Coordinates


def send_uploads(
    settings: Settings, files: Sequence[str], *, create_only: bool = False, dry_run: bool = False
) -> list[SentUpload]:
    """Store the texts of the uploads and append the events, with versions that continue those in the log.

    Nothing is appended for a scope and role whose last line is what is live already, nor, with create_only, for one
    that is live at all; in a dry run nothing is appended or stored.

    Versions are not unique if two senders run at once: both may read the same version and use the same next one. The
    fold still accepts both, because it goes by offsets. Raises Malformed before anything is sent.
    """
    uploads = read_uploads(files)
    checked_topics(admin_client(settings), settings)
    codec = codec_for(settings)
    places = [_partition_of(settings, upload) for upload in uploads]
    rows, ends = _read_rows(settings, codec, uploads, places)
    outcomes = _outcomes(uploads, rows, create_only=create_only)
    live_before = dict(rows)
    is_new = [outcome == "appended" for outcome in outcomes]
    new, new_places = list(compress(uploads, is_new)), list(compress(places, is_new))
    events = _numbered(new, new_places, rows, ends)
    if dry_run:
        coordinates: Sequence[Coordinates | None] = [None] * len(new)
    else:
        _store([upload.text for upload in new if upload.text is not None], settings)
        records = [
            _record(place.topic, upload.scope_key, event, codec)
            for upload, place, event in zip(new, new_places, events, strict=True)
        ]
        coordinates = _deliver(plain_producer(settings), records, "uploads")
    appended = iter(zip(events, coordinates, strict=True))
    return [
        _sent(upload, *next(appended))
        if outcome == "appended"
        else _skipped(upload, outcome, live_before[upload.scope_key])
        for upload, outcome in zip(uploads, outcomes, strict=True)
    ]


def _store(texts: Sequence[bytes], settings: Settings) -> None:
    content = ContentStore.open(settings.content)
    for text in bar(texts, "texts", len(texts)):
        content.put(text)


def _sent(upload: GivenUpload, event: UploadEvent, at: Coordinates | None) -> SentUpload:
    storage_id = getattr(event, "storage_id", None)
    name = type(event).__name__
    fields = (upload.scope_key, upload.line.type, name, event.event_id, event.version, storage_id)
    return SentUpload(*fields, "appended", at)


def _skipped(upload: GivenUpload, outcome: Outcome, context: AssignmentContext) -> SentUpload:
    """What is in the log instead of the upload."""
    role = upload.line.type
    component = component_of(context, role)
    assert component is not None
    events = DELETION_EVENTS if component.is_deletion else UPLOAD_EVENTS
    fields = (component.event_id, component.version, component.storage_id)
    return SentUpload(upload.scope_key, role, events[role].__name__, *fields, outcome, None)


def _outcomes(uploads: Sequence[GivenUpload], rows: Rows, *, create_only: bool) -> list[Outcome]:
    """What happens to each upload: the last one of a scope and role decides about all of them."""
    last = {(upload.scope_key, upload.line.type): upload for upload in uploads}

    def outcome_of(upload: GivenUpload) -> Outcome:
        role = upload.line.type
        context = rows.get(upload.scope_key)
        if create_only and live(context, role) is not None:
            return "exists"
        is_same = _is_same(last[upload.scope_key, role], component_of(context, role))
        return "unchanged" if is_same else "appended"

    return [outcome_of(upload) for upload in uploads]


def _is_same(upload: GivenUpload, component: Component | None) -> bool:
    """Whether the upload would change nothing but the version."""
    if component is None or upload.text is None:
        return component is not None and component.is_deletion and upload.line.delete
    if component.is_deletion or component.sha256 != sha256(upload.text).hexdigest():
        return False
    line = upload.line
    of_instructions = (component.grade_scale, component.context_origin)
    return line.type != "instructions" or of_instructions == (line.grade_scale, line.context_origin)


def _partition_of(settings: Settings, upload: GivenUpload) -> Partition:
    topic = settings.topics.uploads[ROLES.index(upload.line.type)]
    return Partition(topic.name, partition_for(upload.scope_key.encode(), settings.partitions))


def _read_rows(
    settings: Settings,
    codec: Codec,
    uploads: Sequence[GivenUpload],
    partitions: Sequence[Partition],
) -> tuple[Rows, Positions]:
    """The current rows of these scopes, folded from the log, and the positions up to which it was read."""
    ends = high_watermarks_when_reachable(settings, set(partitions))
    rows: Rows = {}
    scopes = {upload.scope_key.encode() for upload in uploads}
    topics = upload_topics_with_set_aside(settings)
    with LogReader(settings, ends) as log:
        log.seek_to_start()
        for record in log.records_until(ends, seconds=30):
            if record.key not in scopes:
                continue
            upload = upload_of(record)
            with suppress(Malformed):  # the fold skips it, too
                event = read_upload(upload, codec, topics)
                fold(rows, event, record.at, record.appended_at_ms)
    return rows, ends


def _numbered(
    uploads: Sequence[GivenUpload], partitions: Sequence[Partition], rows: Rows, ends: Positions
) -> list[UploadEvent]:
    """The events of these uploads; the versions of each scope and role continue those in `rows`. Raises Malformed.

    The events are folded into `rows` as if they were appended at the ends of the log.
    """
    events, now_ms = [], _now_ms()
    next_offset = dict(ends)
    for upload, partition in zip(uploads, partitions, strict=True):
        event = _event(upload, rows.get(upload.scope_key), now_ms)
        check_limits(event)
        fold(rows, event, Coordinates(*partition, next_offset[partition]), now_ms)
        next_offset[partition] += 1
        events.append(event)
    return events


def _event(upload: GivenUpload, context: AssignmentContext | None, now_ms: int) -> UploadEvent:
    line = upload.line
    previous, live_component = component_of(context, line.type), live(context, line.type)
    fields: dict[str, Any] = {
        "event_id": _new_id(),
        "assignment_id": line.assignment_id,
        "version": previous.version + 1 if previous else 1,
        "previous_event_id": previous.event_id if previous else None,
        "actor": line.actor,
        "correlation_id": line.correlation_id or _new_id(),
        "occurred_at_ms": now_ms,
    }
    if line.type == "instructions":
        fields["course_id"] = line.course_id
    if upload.text is None:
        if live_component is None:
            raise upload.document.fault(f"delete: {upload.scope_key} has no {line.type}")
        return DELETION_EVENTS[line.type](**fields)
    if line.type == "instructions":
        fields |= {"grade_scale": line.grade_scale, "context_origin": line.context_origin}
    if line.type == "student_prompt":
        fields["language"] = line.language
    storage_id = sha256(upload.text).hexdigest()
    return UPLOAD_EVENTS[line.type](
        **fields,
        created_at_ms=(live_component.created_at_ms if live_component else None) or now_ms,
        storage_id=storage_id,
        sha256=storage_id,
        media_type=PLAIN_TEXT,
        size_bytes=len(upload.text),
    )


def _now_ms() -> int:
    return time_ns() // 1_000_000


def _new_id() -> str:
    return str(uuid4())


def send_requests(settings: Settings, files: Sequence[str]) -> list[SentRequest]:
    """Store the texts of the essays and append the CJ requests, with the batch id as key.

    Raises Malformed before anything is stored or sent.
    """
    requests = read_requests(files, _now_ms(), _new_id)
    for given in requests:
        texts = {essay.text_storage_id for essay in given.request.essays}
        if repeated := len(given.request.essays) - len(texts):
            say(str(given.document.fault(f"essays: {repeated} of them have a text of another one")))
    codec = codec_for(settings)
    topic = settings.topics.requests.name
    records = [_record(topic, given.request.batch_id, given.request, codec) for given in requests]
    for given, record in zip(requests, records, strict=True):
        if len(record.value or b"") > MAX_REQUEST_BYTES:
            raise given.document.fault(
                f"{len(record.value or b'')} bytes in Avro, at most {MAX_REQUEST_BYTES}"
            )
    checked_topics(admin_client(settings), settings)
    _store([text for given in requests for text in given.texts], settings)
    coordinates = _deliver(plain_producer(settings), records, "requests")
    return [
        SentRequest(given.request.batch_id, given.request.event_id, at)
        for given, at in zip(requests, coordinates, strict=True)
    ]


def _record(
    topic: str, key: str, event: UploadEvent | CJAssessmentRequested, codec: Codec
) -> Record:
    headers = [
        ("event_type", type(event).__name__.encode()),
        ("correlation_id", event.correlation_id.encode()),
    ]
    partition_by_key = -1
    return Record(topic, partition_by_key, key.encode(), codec.encode(event), headers)


def _deliver(producer: Producer, records: Sequence[Record], what: str) -> list[Coordinates]:
    """Deliver the records and return their coordinates; the records of one key keep their order."""
    reports = defaultdict[tuple[str | None, bytes | None], deque[Message]](deque)
    for message in deliver(producer, bar(records, what, len(records))):
        reports[message.topic(), message.key()].append(message)
    return [coordinates_of(reports[record.topic, record.key].popleft()) for record in records]
