"""What happens in the log, as it happens, as server-sent events: blocking, for a thread of its own."""

import time
from collections.abc import Callable, Generator
from typing import Any

import orjson

from processors.kafka.consumer_groups import group_state
from processors.kafka.records import LogRecord
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.dead_letters import is_marker, read_dead_letter_headers
from schemas.errors import BadRecord, CJStreamError
from schemas.events import (
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
    ParkedRequest,
)
from schemas.judging_events import CJBatchJudged

MAX_SHOWN = 100  # of one poll; the rest is only counted
LAG_EVERY_S = 2.0
ALIVE_EVERY_S = 10.0
ALIVE = b": alive\n\n"


def flow(settings: Settings, codec: Codec) -> Generator[bytes, None, None]:
    """Server-sent events about new records and about lag, without end; empty chunks while nothing happens.

    Raises Unreachable and Discrepancy.
    """
    topics = settings.topics
    watched = [topic for topic in topics.all if topic not in (topics.context, topics.judging)]
    with LogReader(settings, settings.partitions_of(*watched)) as log:
        log.seek({partition: end for partition, (_, end) in log.offset_ranges().items()})
        lag_due_s, alive_due_s = 0.0, time.monotonic() + ALIVE_EVERY_S
        while True:
            records = [record for record in log.read() if not is_marker(record.headers)]
            now_s = time.monotonic()
            if records:
                shown = [event_of(record, settings, codec) for record in records[-MAX_SHOWN:]]
                document = {"events": shown, "more": len(records) - len(shown)}
                yield sse("records", document)
            if now_s >= lag_due_s:
                lag_due_s = now_s + LAG_EVERY_S
                yield sse("lag", lag_of(settings))
            elif now_s >= alive_due_s:
                alive_due_s = now_s + ALIVE_EVERY_S
                yield ALIVE
            else:
                yield b""


def sse(kind: str, document: object) -> bytes:
    """One server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(document))


def lag_of(settings: Settings) -> dict[str, Any]:
    """How many records the two groups of a worker have not read yet, by group; None while Kafka does not say."""
    groups: dict[str, tuple[str, Callable[[], list[str]]]] = {
        "requests": (settings.prep_group, lambda: [settings.topics.requests.name]),
        "uploads": (settings.fold_group, lambda: [one.name for one in settings.topics.uploads]),
    }
    found: dict[str, Any] = {}
    for name, (group, topics) in groups.items():
        try:
            state = group_state(settings, group, topics())
        except CJStreamError:
            found[name] = None
            continue
        found[name] = {"lag": sum(state.lag.values()), "members": state.members}
    return found


def event_of(record: LogRecord, settings: Settings, codec: Codec) -> dict[str, Any]:
    """One record for people: its kind, the batch and the scope that it is about, without any text."""
    kind, batch_id, scope, detail = _described(record, settings, codec)
    return {
        "at": str(record.at),
        "appended_at_ms": record.appended_at_ms,
        "kind": kind,
        "batch_id": batch_id,
        "scope": scope,
        "detail": detail,
    }


def _described(record: LogRecord, settings: Settings, codec: Codec) -> tuple[str, str, str, str]:
    """Kind, batch id, scope key and detail of a record."""
    topics = settings.topics
    key = (record.key or b"").decode(errors="replace")
    if record.at.topic in (topics.requests_dlq.name, topics.uploads_dlq.name):
        try:
            letter = read_dead_letter_headers(record.headers)
        except BadRecord:
            return "foreign record", "", "", "not a dead letter"
        return "dead letter", key, "", letter.message
    if record.at.topic == topics.parked.name and record.value is None:
        return "released", "", "", key
    try:
        event = codec.decode(record.value)
    except BadRecord as fault:
        return "foreign record", key, "", str(fault)
    match event:
        case CJAssessmentRequested():
            return "request", event.batch_id, event.assignment_id or "", _essays(event)
        case CJBatchPrepared():
            source = event.processing_metadata.context_source
            return "prepared", event.request.batch_id, event.request.assignment_id or "", source
        case CJBatchUnresolved():
            missing = f"no {', '.join(event.missing)}"
            return "unresolved", event.request.batch_id, event.scope_key, missing
        case ParkedRequest():
            waits_for = f"waits for {', '.join(event.missing)}"
            return "parked", "", event.scope_key, f"{event.request_at}: {waits_for}"
        case CJBatchJudged():
            scope = event.context.assignment_id or ""
            return "judged", event.batch_id, scope, f"{event.outcome}: {event.reason}"
        case _ if record.at.topic in {one.name for one in topics.uploads}:
            return "upload", "", key, type(event).__name__
    return "foreign record", key, "", f"a {type(event).__name__}"


def _essays(event: CJAssessmentRequested) -> str:
    return f"{len(event.essays)} essays"
