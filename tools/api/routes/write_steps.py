"""Steps 1 to 4 of a write, the same for every resource, with their log lines and metrics."""

import logging
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from starlette.responses import Response

from processors.upload_log.upload_log import WriteResult
from schemas.errors import ConditionRequired, NotLive, TooManyAnchors, VersionConflict
from schemas.events import Deletion, role_of
from tables.commands import ASSIGNMENT, DELETE, TextRef, WriteCommand, WriteMetadata
from tables.etags import ANY
from tools.api.admission import WriteRequest
from tools.api.errors.problems import role_not_found
from tools.api.errors.validation_errors import fault_at, invalid
from tools.api.responses.presenters import deletion_response
from tools.audit_json import ids_of

log = logging.getLogger("cjstream.api")
LOGGED = {"version", "event_id", "sha256", "size_bytes"}


def write_command(scope_key: str, condition_on: str, **changes: Any) -> WriteCommand:
    """A command for one scope; `changes` are further fields of WriteCommand, such as a role's new state."""
    ids: dict[str, Any] = ids_of(scope_key)
    return WriteCommand(**ids, condition_on=condition_on, **changes)


async def delete_role(write: WriteRequest, scope_key: str, role: str) -> Response:
    """Delete a live role; together with instructions, their prompt, rubric and anchors are deleted."""
    command = write_command(scope_key, role, needs_live=role, **{role: DELETE})
    return deletion_response(scope_key, await execute(write, command))


async def execute(
    write: WriteRequest,
    command: WriteCommand,
    new_texts: Iterable[str] = (),
    stored: Iterable[TextRef] = (),
) -> WriteResult:
    """Execute a command; `new_texts` are stored first, `stored` are texts that the store has already.

    1. wait until the replica has reached the log's end  2. refuse a command that would fail, then store its texts
    3. decide at the log's end and append the events  4. wait until this process's replica has folded them
    """
    deps = write.deps
    condition = replace(write.condition, if_match=_applicable_etags(write, command))
    command = replace(command, condition=condition)
    metadata = WriteMetadata(
        actor=write.actor, correlation_id=write.correlation_id, occurred_at_ms=deps.now_ms()
    )
    try:
        await deps.log.check(command)  # 1, 2
        await deps.texts.store(new_texts, stored)  # 2
        result = await deps.log.write(command, metadata)  # 3, 4
    except NotLive as fault:
        raise role_not_found(fault.role, command.scope_key, deleted=fault.was_deleted) from fault
    except TooManyAnchors as fault:
        raise invalid([fault_at("body", "too_long", fault.limit, str(fault))]) from fault
    except (VersionConflict, ConditionRequired) as fault:
        deps.metrics.preconditions.labels(fault.role).inc()
        refused = {"role": fault.role, "version": fault.current_version}
        log.info("precondition failed", extra={"scope_key": command.scope_key, **refused})
        raise
    _log_and_count(write, command, result)
    return result


def _applicable_etags(write: WriteRequest, command: WriteCommand) -> tuple[str, ...] | None:
    """The etags of If-Match that are of the changed resource; those of other resources never match."""
    if write.condition.if_match is None:
        return None
    of_component = command.condition_on != ASSIGNMENT
    of_assignment = not of_component or (
        command.instructions is DELETE and command.assignment_id is not None
    )
    return tuple(
        etag
        for etag in write.condition.if_match
        if etag == ANY or (of_assignment if etag.startswith("i") else of_component)
    )


def _log_and_count(write: WriteRequest, command: WriteCommand, result: WriteResult) -> None:
    metrics, scope_key = write.deps.metrics, command.scope_key
    metrics.append.observe(result.append_s)
    if not result.decision.events:
        role = command.condition_on
        component = getattr(result.context, "instructions" if role == ASSIGNMENT else role, None)
        version = component.version if component else 0
        unchanged = {"scope_key": scope_key, "role": role, "version": version}
        log.info("write changes nothing", extra=unchanged)
        return
    metrics.fold_wait.observe(result.fold_wait_s)
    if not result.folded:
        metrics.fold_late.inc()  # UploadLog has logged it
    for event, at in zip(result.decision.events, result.positions, strict=True):
        metrics.events.labels(type(event).__name__).inc()
        phrase = "role deleted" if isinstance(event, Deletion) else "role uploaded"
        logged = {
            each.name: getattr(event, each.name) for each in fields(event) if each.name in LOGGED
        }
        appended = {"scope_key": scope_key, "role": role_of(event), **logged, "source": str(at)}
        log.info(phrase, extra=appended)
