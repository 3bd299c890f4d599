"""What every request of a known route goes through before its endpoint: the first check that fails answers.

Route and method are the framework's. Then: credentials, role, rate, content type, size, syntax, and in the
end every value at once, which is FastAPI's own validation.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

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
    parse_json,
    read_body,
)
from tools.api.requests.field_types import normalize_id
from tools.api.requests.preconditions import condition_of

WRITES = ("POST", "PUT", "PATCH", "DELETE")
NOTHING: Any = object()
Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class WriteContext:
    """Who asks, under which id, and on which condition."""

    actor: str
    correlation_id: str
    condition: Condition
    scope_faults: tuple[Fault, ...] = ()

    def refuse_contradictions(self) -> None:
        """Raise 422 where the body contradicts the path; other faults have been found before."""
        if self.scope_faults:
            raise invalid(self.scope_faults)


class AdmittedRoute(APIRoute):
    """A route for callers with one of the roles."""

    roles: ClassVar[tuple[str, ...]] = ADMINS

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the checks that must come before it."""
        validated = super().get_route_handler()

        async def handle(request: Request) -> Response:
            parts = dependencies_of(request)
            caller = await admit(request, parts, self.roles)
            document = NOTHING
            if self.body_field is not None:
                document = await self._document(request)
            check_request_target(request)
            is_write = request.method in WRITES
            required = is_write and parts.settings.require_if_match
            condition = condition_of(request, required=required) if is_write else Condition()
            faults = scope_faults(request.path_params, document)
            correlation_id = correlation_of(request.scope).id
            request.state.call = WriteContext(
                caller.subject, correlation_id, condition, tuple(faults)
            )
            try:
                return await validated(ParsedRequest(request, document))
            except RequestValidationError as fault:
                found = faults_of(fault.errors())
                raise invalid([*found, *(one for one in faults if one not in found)]) from None

        return handle

    async def _document(self, request: Request) -> Any:
        check_media_type(request, MERGE_PATCH if request.method == "PATCH" else JSON)
        return parse_json(await read_body(request))


class AuditorRoute(AdmittedRoute):
    """A route that auditors may use, too."""

    roles = AUDITORS


class ReaderRoute(AdmittedRoute):
    """A route for everyone with a role."""

    roles = READERS


class ParsedRequest(Request):
    """A request whose body has been read and parsed: JSON's null is a value, too."""

    def __init__(self, request: Request, document: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._document = document

    async def body(self) -> bytes:
        """Not empty where there is a document."""
        return b"" if self._document is NOTHING else b"parsed"

    async def json(self) -> Any:
        """The document."""
        return self._document


async def admit(request: Request, parts: Dependencies, roles: tuple[str, ...]) -> Caller:
    """The caller, who has one of the roles and calls not too often. Raises 401, 403, 429 and 503."""
    caller = await parts.verifier.caller(request.headers.get("authorization"))
    request.state.actor = caller.subject
    caller.must_have(roles)
    parts.rate.consume(caller.subject)
    return caller


def scope_faults(path: Mapping[str, str], document: Any) -> list[Fault]:
    """Where a body contradicts the scope of its path; a course has neither prompt nor rubric."""
    if not isinstance(document, dict) or not path:
        return []
    faults = [
        fault_at(f"body/{name}", "scope_mismatch")
        for name in ("assignment_id", "course_id")
        if isinstance(sent := document.get(name), str)
        and (name not in path or normalize_id(sent) != normalize_id(path[name]))
    ]
    if "course_id" in path:
        faults += [
            fault_at(f"body/{name}", "assignment_scope_only")
            for name in ("student_prompt_storage_id", "judge_rubric_storage_id")
            if document.get(name) is not None
        ]
    return faults


async def write_context_of(request: Request) -> WriteContext:
    """What the checks have found out about a request."""
    call: WriteContext = request.state.call
    return call


WriteContextDep = Annotated[WriteContext, Depends(write_context_of)]
