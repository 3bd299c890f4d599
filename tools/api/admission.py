"""The checks of every request before its endpoint is called; the first check that fails determines the response.

The framework checks path and method. Then follow, in this order: credentials, role, rate, content type, size, syntax,
and finally all values together, in FastAPI's own validation.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from schemas.field_limits import normal_id
from tables.etags import Condition
from tools.api.auth.authentication import ADMINS, AUDITORS, READERS, Caller
from tools.api.dependencies import Dependencies, dependencies_of
from tools.api.errors.correlation import correlation_of
from tools.api.errors.validation_errors import Fault, fault_at, faults_of, invalid
from tools.api.requests.body_reader import (
    JSON,
    MERGE_PATCH,
    check_media_type,
    check_request_target,
    read_json,
)
from tools.api.requests.preconditions import condition_of
from tools.api.requests.request_models import NoQuery

WRITES = ("POST", "PUT", "PATCH", "DELETE")
NO_BODY: Any = object()


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Actor, correlation id and condition of a write; `scope_faults` are contradictions between path and body."""

    deps: Dependencies
    actor: str
    correlation_id: str
    condition: Condition
    scope_faults: tuple[Fault, ...] = ()

    def check_scope(self) -> None:
        """Raise 422 if the body contradicts the path; all other faults were reported earlier."""
        if self.scope_faults:
            raise invalid(self.scope_faults)


class AdmittedRoute(APIRoute):
    """A route for callers that have at least one of `roles`."""

    roles: ClassVar[tuple[str, ...]] = ADMINS

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with the checks that must run before it."""
        validate_and_call = super().get_route_handler()

        async def handle(request: Request) -> Response:
            deps = dependencies_of(request)
            caller = await admit(request, deps, self.roles)
            document = NO_BODY
            if self.body_field is not None:
                document = await self._document(request)
            check_request_target(request)
            is_write = request.method in WRITES
            required = is_write and deps.settings.require_if_match
            condition = condition_of(request, required=required) if is_write else Condition()
            of_scope = scope_faults(request.path_params, document)
            correlation_id = correlation_of(request.scope).id
            request.state.write = WriteRequest(
                deps, caller.subject, correlation_id, condition, tuple(of_scope)
            )
            try:
                return await validate_and_call(ParsedRequest(request, document))
            except RequestValidationError as error:
                faults = faults_of(error.errors())
                raise invalid(
                    [*faults, *(fault for fault in of_scope if fault not in faults)]
                ) from None

        return handle

    async def _document(self, request: Request) -> Any:
        check_media_type(request, MERGE_PATCH if request.method == "PATCH" else JSON)
        return await read_json(request)


class AuditorRoute(AdmittedRoute):
    """A route for administrators and auditors."""

    roles = AUDITORS


class ReaderRoute(AdmittedRoute):
    """A route for all roles: administrators, auditors and services."""

    roles = READERS


class ParsedRequest(Request):
    """A request whose body has been read and parsed; a body of `null` counts as a body."""

    def __init__(self, request: Request, document: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._document = document

    async def body(self) -> bytes:
        """A placeholder for the bytes of the body; empty if there is no body."""
        return b"" if self._document is NO_BODY else b"parsed"

    async def json(self) -> Any:
        """The parsed body."""
        return self._document


async def admit(request: Request, deps: Dependencies, roles: tuple[str, ...]) -> Caller:
    """The caller, after checks of token, role, rate and requests in progress. Raises 401, 403, 429 and 503."""
    of_page: Caller | None = getattr(request.state, "caller", None)  # the console counted its page
    caller = of_page or await deps.verifier.caller(request.headers.get("authorization"))
    request.state.actor = caller.subject
    caller.must_have(roles)
    if of_page is None:
        count_request(request, deps, caller.subject)
    return caller


def count_request(request: Request, deps: Dependencies, subject: str) -> None:
    """Count a request of this subject, until its response has been sent. Raises 429 if there are too many."""
    deps.rate.consume(subject)
    request.state.until_end.enter_context(deps.requests.one(subject))


@dataclass(frozen=True)
class RoleCheck:
    """A dependency that runs `admit`, for routes that check their bodies themselves."""

    roles: tuple[str, ...]

    async def __call__(self, request: Request) -> None:
        """Admit the request's caller."""
        await admit(request, dependencies_of(request), self.roles)


def scope_faults(path: Mapping[str, str], document: Any) -> list[Fault]:
    """Faults of a body that contradicts the scope in the path; a course has neither prompt nor rubric."""
    if not isinstance(document, dict) or not path:
        return []
    faults = [
        fault_at(f"body/{name}", "scope_mismatch")
        for name in ("assignment_id", "course_id")
        if isinstance(sent := document.get(name), str)
        and (name not in path or normal_id(sent) != normal_id(path[name]))
    ]
    if "course_id" in path:
        faults += [
            fault_at(f"body/{name}", "assignment_scope_only")
            for name in ("student_prompt_storage_id", "judge_rubric_storage_id")
            if document.get(name) is not None
        ]
    return faults


async def write_request_of(request: Request, _: NoQuery) -> WriteRequest:
    """What the checks stored in the request; a write has no query parameters of its own."""
    write: WriteRequest = request.state.write
    return write


async def queried_write_of(request: Request) -> WriteRequest:
    """The same for a write whose route reads query parameters."""
    write: WriteRequest = request.state.write
    return write


QueriedWriteDep = Annotated[WriteRequest, Depends(queried_write_of)]
WriteDep = Annotated[WriteRequest, Depends(write_request_of)]
