"""Problems (RFC 9457): every refusal and fault of the API as application/problem+json, by one table.

What was sent is never repeated; the path in `instance` is the one exception.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response

from schemas.errors import CJStreamError
from tools.api.errors.correlation import correlation_of

MEDIA_TYPE = "application/problem+json"
URN = "urn:cjstream:problem:"


class Kind(NamedTuple):
    """What all problems of one slug share."""

    status: int
    title: str
    retry_after_s: int | None = None


KINDS: Mapping[str, Kind] = {
    "malformed-request": Kind(400, "Malformed request"),
    "unauthenticated": Kind(401, "Authentication required"),
    "forbidden": Kind(403, "Not allowed"),
    "resource-not-found": Kind(404, "Not found"),
    "route-not-found": Kind(404, "No such route"),
    "method-not-allowed": Kind(405, "Method not allowed"),
    "immutable-field": Kind(409, "Field cannot change"),
    "history-compacted": Kind(410, "History no longer complete"),
    "version-mismatch": Kind(412, "Version mismatch"),
    "precondition-required": Kind(428, "Condition required"),
    "payload-too-large": Kind(413, "Too large"),
    "unsupported-media-type": Kind(415, "Unsupported media type"),
    "range-not-satisfiable": Kind(416, "Range not satisfiable"),
    "validation-failed": Kind(422, "Validation failed"),
    "rate-limited": Kind(429, "Too many requests"),
    "internal-error": Kind(500, "Internal error"),
    "content-missing": Kind(502, "Stored text missing"),
    "content-corrupt": Kind(502, "Stored text damaged"),
    "content-backend-error": Kind(502, "Content store failed"),
    "log-unavailable": Kind(503, "Kafka unreachable", 5),
    "content-unavailable": Kind(503, "Content store unreachable", 5),
    "auth-keys-unavailable": Kind(503, "Signing keys unreachable", 5),
    "replica-behind": Kind(503, "Not caught up", 2),
    "writer-contended": Kind(503, "Writer contended", 1),
    "content-timeout": Kind(504, "Content store timed out"),
    "outcome-unknown": Kind(504, "Outcome unknown"),
}


class Problem(CJStreamError):
    """One answer that is a problem: slug is a key of KINDS, members stand beside the standard ones."""

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


def answer(request: Request, problem: Problem) -> Response:
    """The problem as a response; the request's log line gets its slug."""
    request.scope.setdefault("state", {})["problem"] = problem.slug
    document = {
        "type": URN + problem.slug,
        "title": problem.kind.title,
        "status": problem.kind.status,
        "detail": str(problem),
        "instance": request.scope["path"],
        "correlation_id": correlation_of(request.scope).id,
        **problem.members,
    }
    return Response(
        orjson.dumps(document), problem.kind.status, problem.headers, media_type=MEDIA_TYPE
    )
