"""One handler for whatever goes wrong, the framework's own refusals included."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from schemas.errors import CJStreamError
from tools.api.errors.problems import Problem, problem_response
from tools.api.errors.validation_errors import faults_of, invalid
from tools.api.responses.error_mapping import note, problem_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def add_handlers(app: FastAPI) -> None:
    """Every fault as a problem; what nobody foresaw goes on to the one who answers with 500."""
    app.add_exception_handler(CJStreamError, _foreseen)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)


async def _foreseen(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, CJStreamError)
    problem = problem_of(fault)
    if problem is None:
        raise fault
    note(request, fault)
    return problem_response(request, problem)


async def _invalid(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestValidationError)
    return problem_response(request, invalid(faults_of(fault.errors())))


async def _of_framework(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    if fault.status_code == 404:
        return problem_response(
            request, Problem("route-not-found", "there is no route of this path")
        )
    if fault.status_code != 405:
        raise RuntimeError(f"the framework refused with {fault.status_code}") from fault
    allowed = ", ".join(allowed_methods(request))
    detail = "the route has other methods"
    return problem_response(
        request, Problem("method-not-allowed", detail, headers={"Allow": allowed})
    )


def allowed_methods(request: Request) -> list[str]:
    """The methods that some route has for the path of a request."""
    routes: list[BaseRoute] = request.app.routes
    return [
        method
        for method in METHODS
        if any(_takes(route, {**request.scope, "method": method}) for route in routes)
    ]


def _takes(route: BaseRoute, scope: dict[str, object]) -> bool:
    match, _ = route.matches(scope)
    return match is Match.FULL
