"""JSON forms that the audit commands and API share; times are RFC 3339, UTC, with milliseconds."""

from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

from schemas.coordinates import Coordinates, Positions
from schemas.events import AnchorsUploaded, Component, UploadEvent
from tables.history.scope_history import VersionGap
from tools.times import FIRST_MS, LAST_MS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_FIELDS = {"occurred_at_ms": "occurred_at", "created_at_ms": "created_at"}
CONVERTED = {"source", "appended_at_ms", "is_deletion", "erased", "anchors", *TIME_FIELDS}
UNCHANGED = tuple(field.name for field in fields(Component) if field.name not in CONVERTED)
unchanged_values = attrgetter(*UNCHANGED)


def instant(ms: int) -> str:
    """Milliseconds since the epoch as `2030-01-15T09:30:00.000Z`; the nearest time that this form has."""
    seconds, rest = divmod(min(max(ms, FIRST_MS), LAST_MS), 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=4096)  # many uploads happen in the same second
def _second(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def source_document(at: Coordinates) -> dict[str, Any]:
    """Coordinates as JSON."""
    return {"topic": at.topic, "partition": at.partition, "offset": at.offset}


def positions_document(positions: Positions) -> list[dict[str, Any]]:
    """Positions as JSON: the next offset of each partition."""
    return [
        {"topic": partition.topic, "partition": partition.partition, "next_offset": offset}
        for partition, offset in sorted(positions.items())
    ]


def ids_of(scope_key: str) -> dict[str, str | None]:
    """assignment_id and course_id; one of them is null."""
    kind, _, scope_id = scope_key.partition(":")
    return {f"{name}_id": scope_id if kind == name else None for name in ("assignment", "course")}


def event_document(event: UploadEvent) -> dict[str, Any]:
    """The fields of an upload event as JSON."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    if isinstance(event, AnchorsUploaded):
        values["anchors"] = list(map(asdict, event.anchors))
    return {"deleted": hasattr(event, "erased"), **_with_instants(values)}


def component_document(component: Component) -> dict[str, Any]:
    """A role as JSON: the fields of its last upload or deletion, with the coordinates and time of the append."""
    document: dict[str, Any] = {"deleted": component.is_deletion}
    for name, value in zip(UNCHANGED, unchanged_values(component), strict=True):
        if value is not None:
            document[name] = value
    if component.anchors is not None:
        document["anchors"] = list(map(asdict, component.anchors))
    if component.is_deletion:
        document["erased"] = component.erased
    document["occurred_at"] = instant(component.occurred_at_ms)
    if component.created_at_ms is not None:
        document["created_at"] = instant(component.created_at_ms)
    document["appended_at"] = instant(component.appended_at_ms)
    document["source"] = source_document(component.source)
    return document


def gap_document(gap: VersionGap) -> dict[str, Any]:
    """A gap as JSON: the log lacks the role's versions between these two; null if nothing later is known."""
    return {
        "role": gap.role,
        "after_version": gap.after_version,
        "before_version": gap.before_version,
        "after": None if gap.after is None else source_document(gap.after),
        "complete_from": None if gap.before is None else source_document(gap.before),
        "reason": gap.reason,
    }


def _with_instants(values: dict[str, Any]) -> dict[str, Any]:
    return {
        TIME_FIELDS.get(name, name): instant(value) if name in TIME_FIELDS else value
        for name, value in values.items()
    }
