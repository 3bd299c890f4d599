"""The exception handlers: every error becomes a problem, including the errors of the framework."""

import logging
from typing import NamedTuple

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from schemas import errors
from schemas.errors import CJStreamError
from tools.api.auth.authentication import Forbidden, Unauthenticated
from tools.api.dependencies import dependencies_of
from tools.api.errors.client_address import client_of
from tools.api.errors.problems import Problem, problem_response
from tools.api.errors.validation_errors import faults_of, invalid

log = logging.getLogger("cjstream.api")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
CURRENT = ("current_version", "current_tag")
WEAK_ETAG = (
    'If-Match has a weak etag, W/"…", which never matches: a proxy that changes responses, for instance by compressing'
    " them, makes etags weak. Send the etag without W/, as the field with the tag has it"
)


class Translation(NamedTuple):
    """The slug of an exception's problem, the attributes that become members, and a detail of its own."""

    slug: str
    members: tuple[str, ...] = ()
    detail: str = "{fault}"


PROBLEMS: dict[type[CJStreamError], Translation] = {  # the first match counts
    errors.Immutable: Translation("immutable-field", ("field", "current")),
    errors.VersionConflict: Translation(
        "version-mismatch",
        ("expected", *CURRENT),
        "{fault.role}: the current state does not match the condition",
    ),
    errors.ConditionRequired: Translation(
        "precondition-required", CURRENT, "send If-Match, or If-None-Match: *"
    ),
    errors.ContentMissing: Translation("content-missing", ("storage_id",)),
    errors.ContentCorrupt: Translation("content-corrupt", ("storage_id",)),
    errors.ContentFailed: Translation("content-backend-error", ("storage_id",), "{fault.message}"),
    errors.ContentTimeout: Translation("content-timeout"),
    errors.ContentUnreachable: Translation("content-unavailable"),
    errors.ReplicaBehind: Translation("replica-behind"),
    errors.WriterContended: Translation("writer-contended"),
    errors.OutcomeUnknown: Translation("outcome-unknown", ("scope_key",)),
    errors.Unreachable: Translation("log-unavailable"),
}


def problem_of(fault: CJStreamError) -> Problem | None:
    """The problem for an exception; None for an unexpected one, which becomes a 500."""
    if isinstance(fault, Problem):
        return fault
    for error_class, (slug, names, detail) in PROBLEMS.items():
        if isinstance(fault, error_class):
            members = {name: getattr(fault, name) for name in names}
            headers = {"ETag": f'"{members["current_tag"]}"'} if "current_tag" in members else {}
            return Problem(slug, detail.format(fault=fault), headers=headers, **members)
    return None


def log_and_count(request: Request, fault: CJStreamError, problem: Problem) -> None:
    """Log and count the problems that have their own log line or metric."""
    if isinstance(fault, Unauthenticated | Forbidden):
        dependencies_of(request).metrics.auth_failures.labels(fault.reason).inc()
        log.warning(
            "caller refused", extra={"reason": fault.reason, "client": client_of(request.scope)}
        )
    elif problem.slug == "log-unavailable":
        cause = type(fault.__cause__ or fault).__name__
        log.error("Kafka is unreachable", extra={"operation": request.method, "cause": cause})


def add_handlers(app: FastAPI) -> None:
    """Respond to every exception with a problem; RequestObserver responds to unexpected ones with 500."""
    app.add_exception_handler(CJStreamError, _expected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _from_framework)


async def _expected(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, CJStreamError)
    problem = problem_of(fault)
    if problem is None:
        raise fault
    if problem.slug == "version-mismatch" and "W/" in request.headers.get("if-match", ""):
        problem = Problem(problem.slug, WEAK_ETAG, headers=problem.headers, **problem.members)
    log_and_count(request, fault, problem)
    return problem_response(request, problem)


async def _invalid(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestValidationError)
    return problem_response(request, invalid(faults_of(fault.errors())))


async def _from_framework(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    match fault.status_code:
        case 404:
            problem = Problem("route-not-found", "there is no route with this path")
        case 405:
            detail = "the route does not have this method; Allow lists its methods"
            allow = {"Allow": ", ".join(_allowed_methods(request))}
            problem = Problem("method-not-allowed", detail, headers=allow)
        case status:
            raise RuntimeError(f"unexpected status {status} from the framework") from fault
    return problem_response(request, problem)


def _allowed_methods(request: Request) -> list[str]:
    """The methods that any route has for the path of the request."""
    return [
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
