"""Steps 1 to 4 of a write, the same for every resource, with their log lines and metrics."""

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
from tools.api.responses.error_mapping import not_live
from tools.api.responses.presenters import source_of

log = logging.getLogger("cjstream.api")


async def write(
    deps: Dependencies,
    write_context: WriteContext,
    command: WriteCommand,
    new_texts: Iterable[str] = (),
    stored: Iterable[TextRef] = (),
) -> WriteResult:
    """Execute a command; `new_texts` are stored first, `stored` are texts that the store has already.

    1. wait until the replica has reached the log's end  2. refuse a command that would fail, then store its texts
    3. decide at the log's end and append the events  4. wait until this process's replica has folded them
    """
    if_match = _applicable_etags(write_context, command)
    command = replace(command, condition=replace(write_context.condition, if_match=if_match))
    metadata = WriteMetadata(
        actor=write_context.actor,
        correlation_id=write_context.correlation_id,
        occurred_at_ms=deps.now_ms(),
    )
    try:
        await deps.log.check(command)  # 1, 2
        await deps.texts.store(new_texts, stored)  # 2
        result = await deps.log.write(command, metadata)  # 3, 4
    except NotLive as fault:
        raise not_live(fault, command.scope_key) from fault
    except (VersionConflict, ConditionRequired) as fault:
        deps.metrics.preconditions.labels(fault.role).inc()
        fields = {"role": fault.role, "version": fault.current_version}
        log.info("precondition_failed", extra={"scope_key": command.scope_key, **fields})
        raise
    _log_and_count(deps, command, result)
    return result


def _applicable_etags(write_context: WriteContext, command: WriteCommand) -> tuple[str, ...] | None:
    """The etags of If-Match that are of the changed resource; those of other resources never match."""
    if write_context.condition.if_match is None:
        return None
    of_component = command.condition_on != ASSIGNMENT
    of_assignment = not of_component or (
        command.instructions is DELETE and command.assignment_id is not None
    )
    return tuple(
        etag
        for etag in write_context.condition.if_match
        if etag == ANY or (of_assignment if etag.startswith("i") else of_component)
    )


def outcome_fields(result: WriteResult, *, several: bool) -> dict[str, Any]:
    """The fields of Wrote, or of WroteSeveral."""
    fields = {
        "outcome": result.decision.outcome,
        "folded": result.folded,
        "position": [source_of(at) for at in result.positions],
    }
    return {**fields, "outcomes": dict(result.decision.outcomes)} if several else fields


def _log_and_count(deps: Dependencies, command: WriteCommand, result: WriteResult) -> None:
    metrics, scope_key = deps.metrics, {"scope_key": command.scope_key}
    metrics.append.observe(result.append_s)
    if not result.decision.events:
        fields = {"role": command.condition_on, "version": _version(result, command)}
        log.info("write_unchanged", extra={**scope_key, **fields})
        return
    metrics.fold_wait.observe(result.fold_wait_s)
    if not result.folded:
        metrics.fold_late.inc()  # UploadLog has logged it
    for event, at in zip(result.decision.events, result.positions, strict=True):
        metrics.events.labels(type(event).__name__).inc()
        log.info(_log_event(event), extra={**scope_key, **_event_fields(event, at)})


def _version(result: WriteResult, command: WriteCommand) -> int:
    role = "instructions" if command.condition_on == ASSIGNMENT else command.condition_on
    component = getattr(result.context, role, None)
    return component.version if component else 0


def _log_event(event: UploadEvent) -> str:
    kind: Literal["deleted", "uploaded"] = "deleted" if isinstance(event, Deletion) else "uploaded"
    return f"{role_of(event)}_{kind}"


def _event_fields(event: UploadEvent, at: Coordinates) -> dict[str, Any]:
    fields = {"version": event.version, "event_id": event.event_id, "source": str(at)}
    if not isinstance(event, Deletion):
        fields |= {"sha256": event.sha256, "size_bytes": event.size_bytes}
    return fields
