"""`cjstream uploads send` and `requests send`: events from files, for producers other than the API.

Every line is checked, and every event made, before the first one is sent.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from time import time_ns
from typing import Any
from uuid import uuid4

from confluent_kafka import Message, Producer

from processors.kafka.clients import admin_client, plain_producer
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record, coordinates_of
from processors.kafka.topic_admin import checked_topics
from processors.log.reader import LogReader
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, upload_topics
from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from schemas.events import ROLES, AssignmentContext, CJAssessmentRequested, UploadEvent
from schemas.field_limits import check_limits
from schemas.partitioner import partition_for
from schemas.topics import MAX_REQUEST_BYTES
from tables.commands import DELETED, UPLOADED
from tables.content_store import PLAIN_TEXT, ContentStore
from tables.context import component_of, fold, live
from tables.upload_record import UploadRecord, read_upload
from tools.inputs import GivenRequest, GivenUpload, read_requests, read_uploads
from tools.progress import bar

Rows = dict[str, AssignmentContext]


@dataclass(frozen=True, slots=True)
class SentUpload:
    """An upload or deletion that the broker has."""

    scope_key: str
    role: str
    event_type: str
    event_id: str
    version: int
    storage_id: str | None
    at: Coordinates


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A CJ request that the broker has."""

    batch_id: str
    event_id: str
    at: Coordinates


def send_uploads(settings: Settings, files: Sequence[str]) -> list[SentUpload]:
    """Store the texts of the files' uploads and append the events, numbered from a fold of their scopes.

    No guarantee under concurrency: two senders who read the same version write the same next number; the
    fold goes by offsets and takes both. Raises Malformed, and then nothing was sent.
    """
    given = read_uploads(files)
    checked_topics(admin_client(settings), settings)
    rows, ends = _known(settings, given)
    events = numbered(given, rows, ends, settings, now_ms=_now_ms(), new_id=_new_id)
    content = ContentStore.at(settings.content)
    for upload in bar(given, "texts", len(given)):
        if upload.text is not None:
            content.put(upload.text)
    codec = codec_for(settings)
    records = [
        _record(_place(settings, upload).topic, upload.scope_key, event, codec)
        for upload, event in zip(given, events, strict=True)
    ]
    delivered = _delivered(plain_producer(settings), records, "uploads")
    return [
        SentUpload(
            upload.scope_key,
            upload.line.type,
            type(event).__name__,
            event.event_id,
            event.version,
            getattr(event, "storage_id", None),
            at,
        )
        for upload, event, at in zip(given, events, delivered, strict=True)
    ]


def _now_ms() -> int:
    return time_ns() // 1_000_000


def _new_id() -> str:
    return str(uuid4())


def _place(settings: Settings, upload: GivenUpload) -> Partition:
    topic = settings.topics.uploads[ROLES.index(upload.line.type)]
    return Partition(topic.name, partition_for(upload.scope_key.encode(), settings.partitions))


def _known(settings: Settings, given: Sequence[GivenUpload]) -> tuple[Rows, Positions]:
    """What the log says of these scopes, and up to where it was read."""
    places = {_place(settings, upload) for upload in given}
    ends = high_watermarks_when_reachable(settings, places)
    rows: Rows = {}
    codec, topics = codec_for(settings), upload_topics(settings)
    scopes = {upload.scope_key.encode() for upload in given}
    with LogReader(settings, places) as log:
        log.seek({place: low for place, (low, _) in log.offset_ranges().items()})
        for record in log.records_until(ends, seconds=30):
            if record.key not in scopes:
                continue
            stood = UploadRecord(record.at, record.key, record.value, record.appended_at_ms)
            try:
                fold(rows, read_upload(stood, codec, topics), record.at, record.appended_at_ms)
            except Malformed:  # the fold leaves it out, too
                continue
    return rows, ends


def numbered(
    given: Sequence[GivenUpload],
    rows: Rows,
    ends: Positions,
    settings: Settings,
    *,
    now_ms: int,
    new_id: Callable[[], str],
) -> list[UploadEvent]:
    """The events of these uploads, each numbered after those before it. Raises Malformed.

    Events are folded into rows as if they stood at the ends of the log.
    """
    events = []
    next_offset = dict(ends)
    for upload in given:
        event = _event(upload, rows.get(upload.scope_key), now_ms, new_id)
        check_limits(event)
        place = _place(settings, upload)
        fold(rows, event, Coordinates(*place, next_offset[place]), now_ms)
        next_offset[place] += 1
        events.append(event)
    return events


def _event(
    upload: GivenUpload, context: AssignmentContext | None, now_ms: int, new_id: Callable[[], str]
) -> UploadEvent:
    line = upload.line
    before, living = component_of(context, line.type), live(context, line.type)
    said: dict[str, Any] = {
        "event_id": new_id(),
        "assignment_id": line.assignment_id,
        "version": before.version + 1 if before else 1,
        "previous_event_id": before.event_id if before else None,
        "actor": line.actor,
        "correlation_id": line.correlation_id or new_id(),
        "occurred_at_ms": now_ms,
    }
    if line.type == "instructions":
        said["course_id"] = line.course_id
    if upload.text is None:
        if living is None:
            raise upload.document.fault(f"delete: {upload.scope_key} has no {line.type}")
        return DELETED[line.type](**said)
    if line.type == "instructions":
        said |= {"grade_scale": line.grade_scale, "context_origin": line.context_origin}
    if line.type == "student_prompt":
        said["language"] = line.language
    storage_id = sha256(upload.text).hexdigest()
    return UPLOADED[line.type](
        **said,
        created_at_ms=(living.created_at_ms if living else None) or now_ms,
        storage_id=storage_id,
        sha256=storage_id,
        media_type=PLAIN_TEXT,
        size_bytes=len(upload.text),
    )


def send_requests(settings: Settings, files: Sequence[str]) -> list[SentRequest]:
    """Append the files' CJ requests, each under its batch id. Raises Malformed, and then nothing was sent."""
    given = read_requests(files, _now_ms(), _new_id)
    codec = codec_for(settings)
    topic = settings.topics.requests.name
    records = [_request_record(topic, one, codec) for one in given]
    checked_topics(admin_client(settings), settings)
    delivered = _delivered(plain_producer(settings), records, "requests")
    return [
        SentRequest(one.request.batch_id, one.request.event_id, at)
        for one, at in zip(given, delivered, strict=True)
    ]


def _request_record(topic: str, given: GivenRequest, codec: Codec) -> Record:
    record = _record(topic, given.request.batch_id, given.request, codec)
    size = len(record.value or b"")
    if size > MAX_REQUEST_BYTES:
        raise given.document.fault(f"{size} bytes in Avro, at most {MAX_REQUEST_BYTES}")
    return record


def _record(
    topic: str, key: str, event: UploadEvent | CJAssessmentRequested, codec: Codec
) -> Record:
    headers = [
        ("event_type", type(event).__name__.encode()),
        ("correlation_id", event.correlation_id.encode()),
    ]
    by_its_key = -1
    return Record(topic, by_its_key, key.encode(), codec.encode(event), headers)


def _delivered(producer: Producer, records: Sequence[Record], what: str) -> list[Coordinates]:
    """Deliver records; where each of them stands. One key's records keep their order."""
    reports = defaultdict[tuple[str | None, bytes | None], deque[Message]](deque)
    for message in deliver(producer, bar(records, what, len(records))):
        reports[message.topic(), message.key()].append(message)
    return [coordinates_of(reports[record.topic, record.key].popleft()) for record in records]
