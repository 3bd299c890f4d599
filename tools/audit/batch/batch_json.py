"""The parked entries and the outcomes of a request as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from processors.kafka.records import LogRecord
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import BadRecord
from schemas.events import (
    ROLES,
    CJBatchPrepared,
    CJBatchUnresolved,
    Outcome,
    ParkedRequest,
    UploadUsed,
)
from tables.content_store import ContentStore
from tables.history.scope_history import ScopeHistory
from tools.audit.stored_text import text_of
from tools.audit_json import event_document, instant, source_document


def event_of(outcome: LogRecord, codec: Codec) -> Outcome | None:
    """The event of an outcome; None for a dead letter."""
    try:
        event = codec.decode(outcome.value)
    except BadRecord:
        return None
    return event if isinstance(event, CJBatchPrepared | CJBatchUnresolved) else None


def entry_document(entry: LogRecord, codec: Codec) -> dict[str, Any]:
    """A record of the parked topic as JSON."""
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


def outcome_document(
    outcome: LogRecord,
    codec: Codec,
    histories: Mapping[str, ScopeHistory],
    settings: Settings,
    *,
    show_texts: bool,
) -> dict[str, Any]:
    """An outcome as JSON, with the uploads that it names as they are in the histories of their scopes."""
    event = event_of(outcome, codec)
    headers = {name: (value or b"").decode(errors="replace") for name, value in outcome.headers}
    document: dict[str, Any] = {
        "at": str(outcome.at),
        "appended_at": instant(outcome.appended_at_ms),
        "headers": headers,
        "event_type": None if event is None else type(event).__name__,
    }
    if isinstance(event, CJBatchPrepared):
        document["processing_metadata"] = asdict(event.processing_metadata)
    elif event is not None:
        document |= {"scope_key": event.scope_key, "missing": list(event.missing)}
    store = ContentStore.open(settings.content)
    used = {role: getattr(event.provenance, role) for role in ROLES} if event else {}
    document["uploads"] = [
        _used_document(role, named, histories, store, show_texts=show_texts)
        for role, named in used.items()
        if named is not None
    ]
    return document


def _used_document(
    role: str,
    named: UploadUsed,
    histories: Mapping[str, ScopeHistory],
    store: ContentStore,
    *,
    show_texts: bool,
) -> dict[str, Any]:
    """An upload that an outcome names; its event is null if it is not in the log."""
    versions = (
        (version, history)
        for history in histories.values()
        for version in history.versions
        if version.at == named.source
    )
    version, history = next(versions, (None, None))
    storage_id = getattr(version.event, "storage_id", None) if version else None
    text = None
    if storage_id is not None and history is not None:
        text = text_of(store, storage_id, named.sha256, role, named.source, history)
    return {
        "role": role,
        "source": source_document(named.source),
        "version": named.version,
        "event_id": named.event_id,
        "sha256": named.sha256,
        "appended_at": None if version is None else instant(version.appended_at_ms),
        "event": None if version is None else event_document(version.event),
        "text_state": None if text is None else text.state,
        **({"text": text.text} if show_texts and text is not None else {}),
    }
