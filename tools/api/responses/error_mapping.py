"""The problem that a client gets for each expected exception, with its log line and its metric."""

import logging
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from schemas.errors import (
    CJStreamError,
    ConditionRequired,
    ContentCorrupt,
    ContentFailed,
    ContentMissing,
    ContentTimeout,
    ContentUnreachable,
    Immutable,
    NotLive,
    OutcomeUnknown,
    ReplicaBehind,
    Unreachable,
    VersionConflict,
    WriterContended,
)
from tools.api.auth.authentication import Forbidden, KeysUnavailable, Unauthenticated
from tools.api.dependencies import dependencies_of
from tools.api.errors.problems import Problem

log = logging.getLogger("cjstream.api")
RESOURCES = {
    "instructions": "assessment_instruction",
    "student_prompt": "student_prompt",
    "judge_rubric": "judge_rubric",
    "assignment": "assignment",
}


def not_found(role: str, scope_key: str, *, deleted: bool) -> Problem:
    """The 404 for a role, or for `assignment`, that is not live in a scope."""
    kind, _, resource_id = scope_key.partition(":")
    resource_type = RESOURCES[role] + ("_course" if kind == "course" else "")
    return Problem(
        "resource-not-found",
        f"no {resource_type} with this id" + (": it was deleted" if deleted else ""),
        resource_type=resource_type,
        resource_id=resource_id,
        deleted=deleted,
    )


def not_live(fault: NotLive, scope_key: str) -> Problem:
    """The 404 for a write that needs a live role."""
    return not_found(fault.role, scope_key, deleted=fault.was_deleted)


def quoted(etag: object) -> str:
    """The value of the ETag header: the etag in double quotes."""
    return f'"{etag}"'


def problem_of(fault: CJStreamError) -> Problem | None:
    """The problem for an exception; None for an unexpected one, which becomes a 500."""
    if isinstance(fault, Problem):
        return fault
    for error_class, new_problem in PROBLEMS:
        if isinstance(fault, error_class):
            return new_problem(fault)
    return None


def _unauthenticated(fault: Unauthenticated) -> Problem:
    headers = {"WWW-Authenticate": fault.challenge}
    return Problem("unauthenticated", str(fault), headers=headers, reason=fault.reason)


def _forbidden(fault: Forbidden) -> Problem:
    headers = {"WWW-Authenticate": fault.challenge}
    roles = list(fault.required_roles)
    return Problem("forbidden", str(fault), headers=headers, required_roles=roles)


def _keys_unavailable(fault: KeysUnavailable) -> Problem:
    headers = {"Retry-After": str(fault.retry_after_s)}
    return Problem("auth-keys-unavailable", str(fault), headers=headers)


def _immutable(fault: Immutable) -> Problem:
    return Problem("immutable-field", str(fault), field=fault.field, current=fault.current)


def _conflict(fault: VersionConflict) -> Problem:
    detail = f"{fault.role}: the current state does not match the condition"
    return _condition("version-mismatch", detail, fault, expected=fault.expected)


def _required(fault: ConditionRequired) -> Problem:
    detail = "send If-Match, or If-None-Match: *"
    return _condition("precondition-required", detail, fault)


def _condition(
    slug: str, detail: str, fault: VersionConflict | ConditionRequired, **members: Any
) -> Problem:
    headers = {"ETag": quoted(fault.current_tag)}
    current = {"current_version": fault.current_version, "current_tag": fault.current_tag}
    return Problem(slug, detail, headers=headers, **members, **current)


def _without_members(slug: str) -> Callable[[Any], Problem]:
    return lambda fault: Problem(slug, str(fault))


def _with_storage_id(slug: str) -> Callable[[Any], Problem]:
    return lambda fault: Problem(slug, str(fault), storage_id=fault.storage_id)


PROBLEMS: tuple[
    tuple[type[CJStreamError], Callable[[Any], Problem]], ...
] = (  # the first match counts
    (Unauthenticated, _unauthenticated),
    (Forbidden, _forbidden),
    (KeysUnavailable, _keys_unavailable),
    (Immutable, _immutable),
    (VersionConflict, _conflict),
    (ConditionRequired, _required),
    (ContentMissing, _with_storage_id("content-missing")),
    (ContentCorrupt, _with_storage_id("content-corrupt")),
    (ContentFailed, _with_storage_id("content-backend-error")),
    (ContentTimeout, _without_members("content-timeout")),
    (ContentUnreachable, _without_members("content-unavailable")),
    (ReplicaBehind, _without_members("replica-behind")),
    (WriterContended, _without_members("writer-contended")),
    (
        OutcomeUnknown,
        lambda fault: Problem("outcome-unknown", str(fault), scope_key=fault.scope_key),
    ),
    (Unreachable, _without_members("log-unavailable")),
)


def log_and_count(request: Request, fault: CJStreamError) -> None:
    """Log and count the kinds of exception that have their own log event or metric."""
    metrics = dependencies_of(request).metrics
    match fault:
        case Unauthenticated():
            metrics.auth_failures.labels(fault.reason).inc()
            log.warning("auth_failed", extra={"reason": fault.reason})
        case Forbidden():
            metrics.auth_failures.labels("forbidden").inc()
            log.warning("auth_failed", extra={"reason": "forbidden"})
        case ContentUnreachable() | ContentTimeout() | ContentFailed() | KeysUnavailable():
            pass  # logged where it occurred
        case Unreachable():
            cause = type(fault.__cause__ or fault).__name__
            log.error("log_failed", extra={"operation": request.method, "cause": cause})
