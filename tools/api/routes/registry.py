"""A read-only schema registry with Confluent's API: it serves the released schemas.

Nothing is ever registered. Registering a known schema returns its id, so clients that always register work, too.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.params import Depends
from fastapi.routing import APIRoute
from starlette.routing import Match

from schemas.codec import canonical
from schemas.errors import CJStreamError, Malformed
from schemas.subjects import SubjectVersion, subject_versions
from schemas.topics import Topics
from tools.api.errors.problems import Problem
from tools.api.requests.body_reader import read_body
from tools.api.responses.exception_handlers import log_and_count

PREFIX = "/registry"
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY = {
    "compatibilityLevel": "FULL_TRANSITIVE"
}  # held by contract/schemas/test_schemas.py
MAX_BODY_BYTES = 256 * 1024  # many times the longest schema
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


class Unanswerable(CJStreamError):
    """An error response of the registry: HTTP status, Confluent's error code and a message."""

    def __init__(
        self, status: int, code: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class RegistryRoute(APIRoute):
    """A route whose error responses have the registry's format."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with its errors translated into the registry's format."""
        call = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await call(request)
            except Unanswerable as fault:
                status, code, headers, message = fault.status, fault.code, fault.headers, str(fault)
            except Problem as fault:
                log_and_count(request, fault, fault)
                status, headers, message = fault.kind.status, fault.headers, str(fault)
                code = status
            return _json({"error_code": code, "message": message}, status, headers)

        return handle


class RegisteredVersions:
    """Schema versions, by subject and by schema id; each method is the answer to a GET."""

    def __init__(self, topics: Topics) -> None:
        self._subjects = dict[str, list[SubjectVersion]]()
        self._ids = dict[int, list[SubjectVersion]]()
        for version in subject_versions(topics):
            self._subjects.setdefault(version.subject, []).append(version)
            self._ids.setdefault(version.schema_id, []).append(version)

    def of_subject(self, subject: str) -> Sequence[SubjectVersion]:
        """The versions of a subject, oldest first. Raises 404."""
        if subject not in self._subjects:
            raise Unanswerable(404, 40401, "subject not found")
        return self._subjects[subject]

    def by_number(self, subject: str, number: str) -> SubjectVersion:
        """The version with this number; `latest` and -1 mean the newest. Raises 404 and 422."""
        versions = self.of_subject(subject)
        if number in ("latest", "-1"):
            return versions[-1]
        if _integer(number) < 1:
            raise Unanswerable(422, 42202, "a version is an integer of at least 1, or latest")
        for version in versions:
            if version.version == _integer(number):
                return version
        raise Unanswerable(404, 40402, "version not found")

    def with_id(self, schema_id: str) -> Sequence[SubjectVersion]:
        """The versions with a schema id. Raises 404."""
        if _integer(schema_id) not in self._ids:
            raise Unanswerable(404, 40403, "schema not found")
        return self._ids[_integer(schema_id)]

    async def with_schema_of(self, request: Request, subject: str) -> SubjectVersion | None:
        """The newest version of a subject that has the canonical form of the schema in the body. Raises 422."""
        body = await read_body(request, MAX_BODY_BYTES)
        try:
            form = canonical(orjson.loads(body)["schema"])
        except (orjson.JSONDecodeError, LookupError, TypeError, Malformed) as fault:
            raise Unanswerable(422, 42201, "the body contains no valid Avro schema") from fault
        newest_first = reversed(self._subjects.get(subject, []))
        return next((version for version in newest_first if version.form == form), None)

    def answers(self) -> Mapping[str, Callable[..., Any]]:
        """The answer to a GET by its path, given the path's parameters: as JSON."""
        return {
            "/schemas/types": lambda: ["AVRO"],
            "/schemas/ids/{schema_id}": lambda schema_id: {
                "schema": self.with_id(schema_id)[0].schema
            },
            "/schemas/ids/{schema_id}/schema": lambda schema_id: _bare(self.with_id(schema_id)[0]),
            "/schemas/ids/{schema_id}/subjects": lambda schema_id: [
                version.subject for version in self.with_id(schema_id)
            ],
            "/schemas/ids/{schema_id}/versions": lambda schema_id: [
                {"subject": version.subject, "version": version.version}
                for version in self.with_id(schema_id)
            ],
            "/subjects": lambda: sorted(self._subjects),
            "/subjects/{subject}/versions": lambda subject: [
                version.version for version in self.of_subject(subject)
            ],
            "/subjects/{subject}/versions/{number}": lambda subject, number: _document(
                self.by_number(subject, number)
            ),
            "/subjects/{subject}/versions/{number}/schema": lambda subject, number: _bare(
                self.by_number(subject, number)
            ),
            "/config": lambda: COMPATIBILITY,
            "/config/{subject}": lambda subject: self.of_subject(subject) and COMPATIBILITY,
            "/mode": lambda: {"mode": "READONLY"},
        }


def router(topics: Topics, *, checks: Sequence[Depends] = ()) -> APIRouter:
    """The routes under /registry; `checks` run before each of them."""
    registered = RegisteredVersions(topics)
    routes = APIRouter(
        prefix=PREFIX, tags=["registry"], dependencies=list(checks), route_class=RegistryRoute
    )
    for path, answer in registered.answers().items():
        routes.add_api_route(path, _endpoint(answer), methods=["GET"])

    @routes.post("/subjects/{subject}")
    async def look_up(subject: str, request: Request) -> Response:
        registered.of_subject(subject)
        version = await registered.with_schema_of(request, subject)
        if version is None:
            raise Unanswerable(404, 40403, "schema not found")
        return _json(_document(version))

    @routes.post("/subjects/{subject}/versions")
    async def register(subject: str, request: Request) -> Response:
        version = await registered.with_schema_of(request, subject)
        if version is None:
            raise Unanswerable(
                422, 42205, "this registry is read-only: it does not register schemas"
            )
        return _json({"id": version.schema_id})

    @routes.api_route("/{rest:path}", methods=METHODS, include_in_schema=False)
    async def other(request: Request) -> Response:
        """Respond to other paths with 404 and to other methods with 405."""
        allowed = {
            method
            for route in routes.routes
            if isinstance(route, APIRoute) and route.matches(request.scope)[0] == Match.PARTIAL
            for method in route.methods or ()
        }
        if not allowed:
            raise Unanswerable(404, 404, "no such route")
        raise Unanswerable(405, 405, "method not allowed", {"Allow": ", ".join(sorted(allowed))})

    return routes


def _endpoint(answer: Callable[..., Any]) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def respond(request: Request) -> Response:
        return _json(answer(**request.path_params))

    return respond


def _integer(text: str) -> int:
    """The non-negative integer in a client's text; -1 if it is not one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1


def _document(version: SubjectVersion) -> dict[str, Any]:
    return {
        "subject": version.subject,
        "version": version.version,
        "id": version.schema_id,
        "schema": version.schema,
    }


def _bare(version: SubjectVersion) -> orjson.Fragment:
    return orjson.Fragment(version.schema)


def _json(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(orjson.dumps(document), status, headers, MEDIA_TYPE)
