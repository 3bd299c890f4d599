"""The events that a measurement appends: of typical size, without real content."""

import time
from hashlib import sha256
from typing import Any
from uuid import uuid4

from schemas.events import CJAssessmentRequested, Essay, UploadEvent
from tables.commands import UPLOAD_EVENTS
from tables.content_store import PLAIN_TEXT

ESSAYS = 10


def now_ms() -> int:
    """The current time in ms; the broker runs on the same machine, so its append times have the same clock."""
    return time.time_ns() // 1_000_000


def upload_of(role: str, assignment_id: str, version: int = 1) -> UploadEvent:
    """An upload of a text for the assignment."""
    text = assignment_id.encode()
    fields: dict[str, Any] = {
        "event_id": str(uuid4()),
        "assignment_id": assignment_id,
        "version": version,
        "actor": "bench",
        "correlation_id": str(uuid4()),
        "occurred_at_ms": now_ms(),
        "created_at_ms": now_ms(),
        "storage_id": sha256(text).hexdigest(),
        "sha256": sha256(text).hexdigest(),
        "media_type": PLAIN_TEXT,
        "size_bytes": len(text),
    }
    if role == "instructions":
        fields |= {"grade_scale": "swedish_8_anchor", "context_origin": "bench"}
    return UPLOAD_EVENTS[role](**fields)


def request_for(assignment_id: str) -> CJAssessmentRequested:
    """A request for a batch of ten essays, about 900 bytes."""
    return CJAssessmentRequested(
        event_id=str(uuid4()),
        occurred_at_ms=now_ms(),
        source_service="bench",
        correlation_id=str(uuid4()),
        batch_id=str(uuid4()),
        assignment_id=assignment_id,
        course_code="ENG5",
        language="en",
        essays=tuple(
            Essay(essay_id=f"essay-{n:02d}", text_storage_id=uuid4().hex * 2) for n in range(ESSAYS)
        ),
    )
