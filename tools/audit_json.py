"""What the audit's answers have in common as JSON; times are RFC 3339, UTC, with milliseconds."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

from schemas.coordinates import Coordinates, Positions
from schemas.events import Component, UploadEvent
from tables.history.scope_history import VersionGap

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS = 253_402_300_799_999  # RFC 3339 has four digits for the year
TIMES = {"occurred_at_ms": "occurred_at", "created_at_ms": "created_at"}
NOT_AS_THEY_ARE = {"source", "appended_at_ms", "is_deletion", "erased", *TIMES}
AS_THEY_ARE = tuple(field.name for field in fields(Component) if field.name not in NOT_AS_THEY_ARE)
values_of = attrgetter(*AS_THEY_ARE)


def instant(ms: int) -> str:
    """`2030-01-15T09:30:00.000Z`."""
    seconds, rest = divmod(min(ms, LAST_MS), 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=4096)  # many uploads are of one second
def _second(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def source_document(at: Coordinates) -> dict[str, Any]:
    """Coordinates."""
    return {"topic": at.topic, "partition": at.partition, "offset": at.offset}


def positions_document(positions: Positions) -> list[dict[str, Any]]:
    """Positions: of each partition the next offset."""
    return [
        {"topic": at.topic, "partition": at.partition, "next_offset": offset}
        for at, offset in sorted(positions.items())
    ]


def ids_of(scope_key: str) -> dict[str, str | None]:
    """assignment_id and course_id, one of them null."""
    kind, _, an_id = scope_key.partition(":")
    return {f"{one}_id": an_id if kind == one else None for one in ("assignment", "course")}


def event_document(event: UploadEvent) -> dict[str, Any]:
    """An upload event's fields."""
    told = {field.name: getattr(event, field.name) for field in fields(event)}
    return {"deleted": hasattr(event, "erased"), **_timed(told)}


def component_document(component: Component) -> dict[str, Any]:
    """A role as it stands: an upload's fields or a deletion's, with where and when it was appended."""
    told: dict[str, Any] = {"deleted": component.is_deletion}
    for name, value in zip(AS_THEY_ARE, values_of(component), strict=True):
        if value is not None:
            told[name] = value
    if component.is_deletion:
        told["erased"] = component.erased
    told["occurred_at"] = instant(component.occurred_at_ms)
    if component.created_at_ms is not None:
        told["created_at"] = instant(component.created_at_ms)
    told["appended_at"] = instant(component.appended_at_ms)
    told["source"] = source_document(component.source)
    return told


def gap_document(gap: VersionGap) -> dict[str, Any]:
    """A gap: versions between these two of the role are not in the log; null where nothing is known after it."""
    return {
        "role": gap.role,
        "after_version": gap.after_version,
        "before_version": gap.before_version,
        "after": None if gap.after is None else source_document(gap.after),
        "complete_from": None if gap.before is None else source_document(gap.before),
        "reason": gap.reason,
    }


def _timed(told: dict[str, Any]) -> dict[str, Any]:
    return {
        TIMES.get(name, name): instant(value) if name in TIMES else value
        for name, value in told.items()
    }
