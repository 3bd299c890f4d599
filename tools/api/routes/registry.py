"""A read-only schema registry with Confluent's API: it serves the released schemas.

Nothing is ever registered. Registering a known schema returns its id, so clients that always register work, too.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
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

PREFIX = "/registry"
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY = "FULL_TRANSITIVE"  # checked by tests/contract/schemas/test_schemas.py
MAX_BODY_BYTES = 256 * 1024  # many times the longest schema
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
Document = dict[str, Any]


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
                return _error(fault.status, fault.code, str(fault), fault.headers)
            except Problem as fault:
                return _error(fault.kind.status, fault.kind.status, str(fault), fault.headers)

        return handle


class RegisteredVersions:
    """Schema versions, by subject and by schema id."""

    def __init__(self, all_versions: Iterable[SubjectVersion]) -> None:
        self.subjects = dict[str, list[SubjectVersion]]()
        self._ids = dict[int, list[SubjectVersion]]()
        for version in all_versions:
            self.subjects.setdefault(version.subject, []).append(version)
            self._ids.setdefault(version.schema_id, []).append(version)

    def of_subject(self, subject: str) -> Sequence[SubjectVersion]:
        """The versions of a subject, oldest first. Raises 404."""
        if subject not in self.subjects:
            raise Unanswerable(404, 40401, "subject not found")
        return self.subjects[subject]

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

    def with_form(self, subject: str, form: str) -> SubjectVersion | None:
        """The newest version of a subject that has this canonical form."""
        newest_first = reversed(self.subjects.get(subject, []))
        return next((version for version in newest_first if version.form == form), None)


def router(topics: Topics, *, checks: Sequence[Depends] = ()) -> APIRouter:
    """The routes under /registry; `checks` run before each of them."""
    registered = RegisteredVersions(subject_versions(topics))
    routes = APIRouter(
        prefix=PREFIX, tags=["registry"], dependencies=list(checks), route_class=RegistryRoute
    )
    _add_id_routes(routes, registered)
    _add_subject_routes(routes, registered)
    _add_setting_routes(routes, registered)

    @routes.api_route("/{rest:path}", methods=METHODS, include_in_schema=False)
    async def other(request: Request) -> Response:
        """Respond to other paths with 404 and to other methods with 405."""
        allowed = _methods_of(routes, request)
        if not allowed:
            raise Unanswerable(404, 404, "no such route")
        raise Unanswerable(405, 405, "method not allowed", {"Allow": ", ".join(sorted(allowed))})

    return routes


def _add_id_routes(routes: APIRouter, registered: RegisteredVersions) -> None:
    @routes.get("/schemas/types")
    async def types() -> Response:
        return _json(["AVRO"])

    @routes.get("/schemas/ids/{schema_id}")
    async def by_id(schema_id: str) -> Response:
        return _json({"schema": registered.with_id(schema_id)[0].schema})

    @routes.get("/schemas/ids/{schema_id}/schema")
    async def schema_by_id(schema_id: str) -> Response:
        return _schema(registered.with_id(schema_id)[0])

    @routes.get("/schemas/ids/{schema_id}/subjects")
    async def subjects_by_id(schema_id: str) -> Response:
        return _json([version.subject for version in registered.with_id(schema_id)])

    @routes.get("/schemas/ids/{schema_id}/versions")
    async def versions_by_id(schema_id: str) -> Response:
        versions = registered.with_id(schema_id)
        return _json(
            [{"subject": version.subject, "version": version.version} for version in versions]
        )


def _add_subject_routes(routes: APIRouter, registered: RegisteredVersions) -> None:
    @routes.get("/subjects")
    async def subjects() -> Response:
        return _json(sorted(registered.subjects))

    @routes.get("/subjects/{subject}/versions")
    async def numbers(subject: str) -> Response:
        return _json([version.version for version in registered.of_subject(subject)])

    @routes.get("/subjects/{subject}/versions/{number}")
    async def version(subject: str, number: str) -> Response:
        return _json(_document(registered.by_number(subject, number)))

    @routes.get("/subjects/{subject}/versions/{number}/schema")
    async def schema_of_version(subject: str, number: str) -> Response:
        return _schema(registered.by_number(subject, number))

    @routes.post("/subjects/{subject}")
    async def look_up(subject: str, request: Request) -> Response:
        registered.of_subject(subject)
        version = registered.with_form(subject, await _form(request))
        if version is None:
            raise Unanswerable(404, 40403, "schema not found")
        return _json(_document(version))

    @routes.post("/subjects/{subject}/versions")
    async def register(subject: str, request: Request) -> Response:
        version = registered.with_form(subject, await _form(request))
        if version is None:
            raise Unanswerable(
                422, 42205, "this registry is read-only: it does not register schemas"
            )
        return _json({"id": version.schema_id})


def _add_setting_routes(routes: APIRouter, registered: RegisteredVersions) -> None:
    @routes.get("/config")
    async def config() -> Response:
        return _json({"compatibilityLevel": COMPATIBILITY})

    @routes.get("/config/{subject}")
    async def config_of(subject: str) -> Response:
        registered.of_subject(subject)
        return _json({"compatibilityLevel": COMPATIBILITY})

    @routes.get("/mode")
    async def mode() -> Response:
        return _json({"mode": "READONLY"})


async def _form(request: Request) -> str:
    """The canonical form of the schema in the body."""
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        return canonical(orjson.loads(body)["schema"])
    except (orjson.JSONDecodeError, LookupError, TypeError, Malformed) as fault:
        raise Unanswerable(422, 42201, "the body contains no valid Avro schema") from fault


def _methods_of(routes: APIRouter, request: Request) -> set[str]:
    """The methods of the routes with this path."""
    return {
        method
        for route in routes.routes
        if isinstance(route, APIRoute) and route.matches(request.scope)[0] == Match.PARTIAL
        for method in route.methods or ()
    }


def _integer(text: str) -> int:
    """The non-negative integer in a client's text; -1 if it is not one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1


def _document(version: SubjectVersion) -> Document:
    return {
        "subject": version.subject,
        "version": version.version,
        "id": version.schema_id,
        "schema": version.schema,
    }


def _json(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(orjson.dumps(document), status, headers, MEDIA_TYPE)


def _schema(version: SubjectVersion) -> Response:
    return Response(version.schema, media_type=MEDIA_TYPE)


def _error(status: int, code: int, message: str, headers: Mapping[str, str] | None) -> Response:
    return _json({"error_code": code, "message": message}, status, headers)
