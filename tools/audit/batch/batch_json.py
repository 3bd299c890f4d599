"""The result of `audit batch` as one JSON document."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from processors.kafka.records import LogRecord
from schemas.codec import Codec
from schemas.errors import BadRecord
from schemas.events import CJBatchPrepared, ParkedRequest
from tools.audit.batch.batch_story import BatchStory, OutcomeStory, UsedUpload
from tools.audit_json import event_document, instant, source_document


def document_of(
    batch_id: str, stories: Iterable[BatchStory], codec: Codec, *, texts: bool
) -> dict[str, Any]:
    """The stories as a JSON document, with or without the texts."""
    return {
        "batch_id": batch_id,
        "requests": [_story_document(story, codec, texts=texts) for story in stories],
    }


def _story_document(story: BatchStory, codec: Codec, *, texts: bool) -> dict[str, Any]:
    return {
        "at": str(story.record.at),
        "appended_at": instant(story.record.appended_at_ms),
        "key": None if story.record.key is None else story.record.key.decode(errors="replace"),
        "event": None if story.event is None else asdict(story.event),
        "state": _state(story),
        "parking": [_entry_document(entry, codec) for entry in story.parking],
        "outcomes": [_outcome_document(outcome, texts=texts) for outcome in story.outcomes],
        "verdict": [
            {
                "says": type(finding).__name__,
                "kind": finding.kind,
                "at": str(finding.at),
                "sentence": finding.sentence,
            }
            for finding in story.findings
        ],
        "verified": not story.tally.findings and not story.tally.not_verifiable,
    }


def _state(story: BatchStory) -> str:
    """The state of a request in one word."""
    if not story.outcomes:
        states = ("waiting", "not_yet_prepared")
        return next((state for state in states if story.tally.requests[state]), "without_outcome")
    event = story.outcomes[0].event
    if event is None:
        return "dead_lettered"
    return "prepared" if isinstance(event, CJBatchPrepared) else "unresolved"


def _entry_document(entry: LogRecord, codec: Codec) -> dict[str, Any]:
    document = {"at": str(entry.at), "appended_at": instant(entry.appended_at_ms)}
    if entry.value is None:
        return {**document, "is": "released"}
    try:
        parked = codec.decode_as(ParkedRequest, entry.value)
    except BadRecord as fault:
        return {**document, "is": f"unreadable: {fault}"}
    return {
        **document,
        "is": "parked",
        "scope_key": parked.scope_key,
        "missing": list(parked.missing),
        "deadline": instant(parked.deadline_at_ms),
    }


def _outcome_document(outcome: OutcomeStory, *, texts: bool) -> dict[str, Any]:
    record, event = outcome.record, outcome.event
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    document: dict[str, Any] = {
        "at": str(record.at),
        "appended_at": instant(record.appended_at_ms),
        "headers": headers,
        "event_type": None if event is None else type(event).__name__,
    }
    if isinstance(event, CJBatchPrepared):
        document["processing_metadata"] = asdict(event.processing_metadata)
    elif event is not None:
        document |= {"scope_key": event.scope_key, "missing": list(event.missing)}
    document["uploads"] = [_used_document(used, texts=texts) for used in outcome.used]
    return document


def _used_document(used: UsedUpload, *, texts: bool) -> dict[str, Any]:
    version, text = used.version, used.text
    return {
        "role": used.role,
        "source": source_document(used.named.source),
        "version": used.named.version,
        "event_id": used.named.event_id,
        "sha256": used.named.sha256,
        "appended_at": None if version is None else instant(version.appended_at_ms),
        "event": None if version is None else event_document(version.event),
        "text_state": None if text is None else text.state,
        **({"text": text.text} if texts and text is not None else {}),
    }
