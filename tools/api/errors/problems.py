"""Problems (RFC 9457): every error response of the API as application/problem+json, from one table.

Values of the request are never repeated, except for the path in `instance`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response

from schemas.errors import CJStreamError
from schemas.events import AssignmentContext
from tables.context import component_of, is_live
from tools.api.errors.correlation import correlation_of

MEDIA_TYPE = "application/problem+json"
URN = "urn:cjstream:problem:"


class ProblemKind(NamedTuple):
    """Status, title and Retry-After of all problems with one slug."""

    status: int
    title: str
    retry_after_s: int | None = None


KINDS: Mapping[str, ProblemKind] = {
    "malformed-request": ProblemKind(400, "Malformed request"),
    "unauthenticated": ProblemKind(401, "Authentication required"),
    "forbidden": ProblemKind(403, "Not allowed"),
    "resource-not-found": ProblemKind(404, "Not found"),
    "route-not-found": ProblemKind(404, "No such route"),
    "method-not-allowed": ProblemKind(405, "Method not allowed"),
    "prompt-prerequisite": ProblemKind(409, "Assignment not ready"),
    "immutable-field": ProblemKind(409, "Field cannot change"),
    "history-compacted": ProblemKind(410, "History no longer complete"),
    "request-timeout": ProblemKind(408, "Request took too long"),
    "version-mismatch": ProblemKind(412, "Version mismatch"),
    "precondition-required": ProblemKind(428, "Condition required"),
    "payload-too-large": ProblemKind(413, "Too large"),
    "unsupported-media-type": ProblemKind(415, "Unsupported media type"),
    "range-not-satisfiable": ProblemKind(416, "Range not satisfiable"),
    "validation-failed": ProblemKind(422, "Validation failed"),
    "rate-limited": ProblemKind(429, "Too many requests"),
    "too-many-in-progress": ProblemKind(429, "Too many requests in progress", 1),
    "internal-error": ProblemKind(500, "Internal error"),
    "content-missing": ProblemKind(502, "Stored text missing"),
    "content-corrupt": ProblemKind(502, "Stored text damaged"),
    "content-backend-error": ProblemKind(502, "Content store failed"),
    "log-unavailable": ProblemKind(503, "Kafka unreachable", 5),
    "content-unavailable": ProblemKind(503, "Content store unreachable", 5),
    "auth-keys-unavailable": ProblemKind(503, "Signing keys unreachable", 5),
    "judge-not-configured": ProblemKind(503, "No judge configured"),
    "too-many-connections": ProblemKind(503, "Too many connections", 1),
    "replica-behind": ProblemKind(503, "Not caught up", 2),
    "writer-contended": ProblemKind(503, "Writer contended", 1),
    "content-timeout": ProblemKind(504, "Content store timed out"),
    "outcome-unknown": ProblemKind(504, "Outcome unknown"),
}


class Problem(CJStreamError):
    """One error response: `slug` is a key of KINDS, `members` are added to the standard members."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.slug = slug
        self.kind = KINDS[slug]
        self.members = members
        self.headers = dict(headers or {})
        if self.kind.retry_after_s is not None:
            self.headers.setdefault("Retry-After", str(self.kind.retry_after_s))


def not_found(resource_type: str, resource_id: str, *, deleted: bool = False) -> Problem:
    """The 404 for one resource; `deleted` says whether it once was there."""
    return Problem(
        "resource-not-found",
        f"no {resource_type} with this id" + (": it was deleted" if deleted else ""),
        resource_type=resource_type,
        resource_id=resource_id,
        deleted=deleted,
    )


def role_not_found(role: str, scope_key: str, *, deleted: bool) -> Problem:
    """The 404 for a role, or for `assignment`, that is not live in a scope."""
    kind, _, resource_id = scope_key.partition(":")
    resource_type = "assessment_instruction" if role == "instructions" else role
    if kind == "course":
        resource_type += "_course"
    return not_found(resource_type, resource_id, deleted=deleted)


def not_live(context: AssignmentContext | None, role: str, scope_key: str) -> Problem:
    """The 404 for a role that is not live, or for the instructions if they are not live either."""
    absent = role if is_live(context, "instructions") else "instructions"
    return role_not_found(absent, scope_key, deleted=component_of(context, absent) is not None)


def problem_response(request: Request, problem: Problem) -> Response:
    """The problem as a response; its slug is recorded for the request's log line."""
    request.scope.setdefault("state", {})["problem"] = problem.slug
    document = document_of(problem, correlation_of(request.scope).id, request.scope["path"])
    return Response(
        orjson.dumps(document), problem.kind.status, problem.headers, media_type=MEDIA_TYPE
    )


def document_of(problem: Problem, correlation_id: str, path: str = "") -> dict[str, Any]:
    """The problem as JSON; the path is unknown if the request could not be read."""
    return {
        "type": URN + problem.slug,
        "title": problem.kind.title,
        "status": problem.kind.status,
        "detail": str(problem),
        **({"instance": path} if path else {}),
        "correlation_id": correlation_id,
        **problem.members,
    }
