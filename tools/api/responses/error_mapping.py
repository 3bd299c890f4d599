"""Every foreseen fault as the problem that a client gets, with its log line and its count."""

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
    """404 for a role, or `assignment`, that is not live at a scope."""
    kind, _, resource_id = scope_key.partition(":")
    resource_type = RESOURCES[role] + ("_course" if kind == "course" else "")
    return Problem(
        "resource-not-found",
        f"no {resource_type} of this id" + (": it was deleted" if deleted else ""),
        resource_type=resource_type,
        resource_id=resource_id,
        deleted=deleted,
    )


def refused(fault: NotLive, scope_key: str) -> Problem:
    """404 for what a change needs."""
    return not_found(fault.role, scope_key, deleted=fault.was_deleted)


def etag(tag: object) -> str:
    """A tag as HTTP writes it."""
    return f'"{tag}"'


def problem_of(fault: CJStreamError) -> Problem | None:
    """The problem of a fault; None for one that no client may cause."""
    if isinstance(fault, Problem):
        return fault
    for kind, problem in PROBLEMS:
        if isinstance(fault, kind):
            return problem(fault)
    return None


def _unauthenticated(fault: Unauthenticated) -> Problem:
    headers = {"WWW-Authenticate": fault.challenge}
    return Problem("unauthenticated", str(fault), headers=headers, reason=fault.reason)


def _forbidden(fault: Forbidden) -> Problem:
    headers = {"WWW-Authenticate": fault.challenge}
    roles = list(fault.required_roles)
    return Problem("forbidden", str(fault), headers=headers, required_roles=roles)


def _keys(fault: KeysUnavailable) -> Problem:
    headers = {"Retry-After": str(fault.retry_after_s)}
    return Problem("auth-keys-unavailable", str(fault), headers=headers)


def _immutable(fault: Immutable) -> Problem:
    return Problem("immutable-field", str(fault), field=fault.field, current=fault.current)


def _conflict(fault: VersionConflict) -> Problem:
    detail = f"{fault.role}: the tag is not the one that was expected"
    return _condition("version-mismatch", detail, fault, expected=fault.expected)


def _required(fault: ConditionRequired) -> Problem:
    return _condition("precondition-required", "send If-Match or If-None-Match: *", fault)


def _condition(
    slug: str, detail: str, fault: VersionConflict | ConditionRequired, **members: Any
) -> Problem:
    tag = etag(fault.current_tag)
    now = {"current_version": fault.current_version, "current_tag": fault.current_tag}
    return Problem(slug, detail, headers={"ETag": tag}, **members, **now)


def _plain(slug: str) -> Callable[[Any], Problem]:
    return lambda fault: Problem(slug, str(fault))


def _of_content(slug: str) -> Callable[[Any], Problem]:
    return lambda fault: Problem(slug, str(fault), storage_id=fault.storage_id)


PROBLEMS: tuple[tuple[type[CJStreamError], Callable[[Any], Problem]], ...] = (  # first that fits
    (Unauthenticated, _unauthenticated),
    (Forbidden, _forbidden),
    (KeysUnavailable, _keys),
    (Immutable, _immutable),
    (VersionConflict, _conflict),
    (ConditionRequired, _required),
    (ContentMissing, _of_content("content-missing")),
    (ContentCorrupt, _of_content("content-corrupt")),
    (ContentFailed, _of_content("content-backend-error")),
    (ContentTimeout, _plain("content-timeout")),
    (ContentUnreachable, _plain("content-unavailable")),
    (ReplicaBehind, _plain("replica-behind")),
    (WriterContended, _plain("writer-contended")),
    (
        OutcomeUnknown,
        lambda fault: Problem("outcome-unknown", str(fault), scope_key=fault.scope_key),
    ),
    (Unreachable, _plain("log-unavailable")),
)


def note(request: Request, fault: CJStreamError) -> None:
    """Log and count a fault that has an event or a counter of its own."""
    metrics = dependencies_of(request).metrics
    match fault:
        case Unauthenticated():
            metrics.auth_failures.labels(fault.reason).inc()
            log.warning("auth_failed", extra={"reason": fault.reason})
        case Forbidden():
            metrics.auth_failures.labels("forbidden").inc()
            log.warning("auth_failed", extra={"reason": "forbidden"})
        case ContentUnreachable() | ContentTimeout() | ContentFailed() | KeysUnavailable():
            pass  # told where it was met
        case Unreachable():
            cause = type(fault.__cause__ or fault).__name__
            log.error("log_failed", extra={"operation": request.method, "cause": cause})
