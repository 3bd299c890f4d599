"""The exception handlers: every error becomes a problem, including the errors of the framework."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from schemas.errors import CJStreamError
from tools.api.errors.problems import Problem, problem_response
from tools.api.errors.validation_errors import faults_of, invalid
from tools.api.responses.error_mapping import log_and_count, problem_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


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
    log_and_count(request, fault)
    return problem_response(request, problem)


async def _invalid(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestValidationError)
    return problem_response(request, invalid(faults_of(fault.errors())))


async def _from_framework(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    if fault.status_code == 404:
        return problem_response(
            request, Problem("route-not-found", "there is no route with this path")
        )
    if fault.status_code != 405:
        raise RuntimeError(f"unexpected status {fault.status_code} from the framework") from fault
    allowed = ", ".join(allowed_methods(request))
    detail = "the route does not have this method; Allow lists its methods"
    return problem_response(
        request, Problem("method-not-allowed", detail, headers={"Allow": allowed})
    )


def allowed_methods(request: Request) -> list[str]:
    """The methods that any route has for the path of the request."""
    routes: list[BaseRoute] = request.app.routes
    return [
        method
        for method in METHODS
        if any(_matches(route, {**request.scope, "method": method}) for route in routes)
    ]


def _matches(route: BaseRoute, scope: dict[str, object]) -> bool:
    match, _ = route.matches(scope)
    return match is Match.FULL
