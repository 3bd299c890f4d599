"""Steps 1 to 4 of a write, the same for every resource, and what they leave in logs and counters."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from processors.upload_log.upload_log import WriteResult
from schemas.coordinates import Coordinates
from schemas.errors import ConditionRequired, NotLive, VersionConflict
from schemas.events import Deletion, UploadEvent, role_of
from tables.commands import ASSIGNMENT, DELETE, TextRef, WriteCommand, WriteMetadata
from tables.etags import ANY
from tools.api.admission import WriteContext
from tools.api.dependencies import Dependencies
from tools.api.responses.error_mapping import refused
from tools.api.responses.presenters import source_of

log = logging.getLogger("cjstream.api")


async def write(
    parts: Dependencies,
    call: WriteContext,
    change: WriteCommand,
    texts: Iterable[str] = (),
    named: Iterable[TextRef] = (),
) -> WriteResult:
    """Make a change whose texts are `texts`, new ones, and `named`, which are stored already.

    1. the replica passes the log's end  2. hopeless changes are refused, then texts are stored
    3. the change is decided at the log's end and appended  4. the own replica folds it
    """
    change = replace(change, condition=replace(call.condition, if_match=_fitting(call, change)))
    writing = WriteMetadata(
        actor=call.actor, correlation_id=call.correlation_id, occurred_at_ms=parts.now_ms()
    )
    try:
        await parts.log.check(change)  # 1, 2
        await parts.texts.store(texts, named)  # 2
        written = await parts.log.write(change, writing)  # 3, 4
    except NotLive as fault:
        raise refused(fault, change.scope_key) from fault
    except (VersionConflict, ConditionRequired) as fault:
        parts.metrics.preconditions.labels(fault.role).inc()
        about = {"role": fault.role, "version": fault.current_version}
        log.info("precondition_failed", extra={"scope_key": change.scope_key, **about})
        raise
    _tell(parts, change, written)
    return written


def _fitting(call: WriteContext, change: WriteCommand) -> tuple[str, ...] | None:
    """The tags of If-Match that speak of what is changed; one of something else never matches."""
    if call.condition.if_match is None:
        return None
    of_component = change.condition_on != ASSIGNMENT
    of_assignment = not of_component or (
        change.instructions is DELETE and change.assignment_id is not None
    )
    return tuple(
        tag
        for tag in call.condition.if_match
        if tag == ANY or (of_assignment if tag.startswith("i") else of_component)
    )


def outcome_of(written: WriteResult, *, several: bool) -> dict[str, Any]:
    """The fields of Wrote, or of WroteSeveral."""
    said = {
        "outcome": written.decision.outcome,
        "folded": written.folded,
        "position": [source_of(at) for at in written.positions],
    }
    return {**said, "outcomes": dict(written.decision.outcomes)} if several else said


def _tell(parts: Dependencies, change: WriteCommand, written: WriteResult) -> None:
    metrics, about = parts.metrics, {"scope_key": change.scope_key}
    metrics.append.observe(written.append_s)
    if not written.decision.events:
        seen = {"role": change.condition_on, "version": _version(written, change)}
        log.info("write_unchanged", extra={**about, **seen})
        return
    metrics.fold_wait.observe(written.fold_wait_s)
    if not written.folded:
        metrics.fold_late.inc()  # the log has told it
    for event, at in zip(written.decision.events, written.positions, strict=True):
        metrics.events.labels(type(event).__name__).inc()
        log.info(_name(event), extra={**about, **_about(event, at)})


def _version(written: WriteResult, change: WriteCommand) -> int:
    role = "instructions" if change.condition_on == ASSIGNMENT else change.condition_on
    component = getattr(written.context, role, None)
    return component.version if component else 0


def _name(event: UploadEvent) -> str:
    kind: Literal["deleted", "uploaded"] = "deleted" if isinstance(event, Deletion) else "uploaded"
    return f"{role_of(event)}_{kind}"


def _about(event: UploadEvent, at: Coordinates) -> dict[str, Any]:
    said = {"version": event.version, "event_id": event.event_id, "source": str(at)}
    if not isinstance(event, Deletion):
        said |= {"sha256": event.sha256, "size_bytes": event.size_bytes}
    return said
