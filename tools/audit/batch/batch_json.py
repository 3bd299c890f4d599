"""The stories of `audit batch` as one JSON document."""

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
    """The stories for machines; texts says whether those are told whole."""
    return {
        "batch_id": batch_id,
        "requests": [_story_document(one, codec, texts=texts) for one in stories],
    }


def _story_document(one: BatchStory, codec: Codec, *, texts: bool) -> dict[str, Any]:
    return {
        "at": str(one.record.at),
        "appended_at": instant(one.record.appended_at_ms),
        "key": None if one.record.key is None else one.record.key.decode(errors="replace"),
        "event": None if one.event is None else asdict(one.event),
        "state": _state(one),
        "parking": [_entry_document(entry, codec) for entry in one.parking],
        "outcomes": [_outcome_document(ended, texts=texts) for ended in one.outcomes],
        "verdict": [
            {"says": type(it).__name__, "kind": it.kind, "at": str(it.at), "sentence": it.sentence}
            for it in one.remarks
        ],
        "verified": not one.tally.findings and not one.tally.not_verifiable,
    }


def _state(one: BatchStory) -> str:
    """What became of a request, in a word."""
    if not one.outcomes:
        states = ("waiting", "not_yet_prepared")
        return next((state for state in states if one.tally.requests[state]), "without_outcome")
    event = one.outcomes[0].event
    if event is None:
        return "dead_lettered"
    return "prepared" if isinstance(event, CJBatchPrepared) else "unresolved"


def _entry_document(entry: LogRecord, codec: Codec) -> dict[str, Any]:
    told = {"at": str(entry.at), "appended_at": instant(entry.appended_at_ms)}
    if entry.value is None:
        return {**told, "is": "released"}
    try:
        parked = codec.decode_as(ParkedRequest, entry.value)
    except BadRecord as fault:
        return {**told, "is": f"unreadable: {fault}"}
    return {
        **told,
        "is": "parked",
        "scope_key": parked.scope_key,
        "missing": list(parked.missing),
        "deadline": instant(parked.deadline_at_ms),
    }


def _outcome_document(ended: OutcomeStory, *, texts: bool) -> dict[str, Any]:
    record, event = ended.record, ended.event
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    told: dict[str, Any] = {
        "at": str(record.at),
        "appended_at": instant(record.appended_at_ms),
        "headers": headers,
        "event_type": None if event is None else type(event).__name__,
    }
    if isinstance(event, CJBatchPrepared):
        told["processing_metadata"] = asdict(event.processing_metadata)
    elif event is not None:
        told |= {"scope_key": event.scope_key, "missing": list(event.missing)}
    told["uploads"] = [_used_document(used, texts=texts) for used in ended.used]
    return told


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
