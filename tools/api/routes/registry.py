"""The read-only registry: the released schemas as Confluent's clients ask for them.

Nothing is ever registered. A schema that is known is answered with its id, so clients that always register work, too.
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
COMPATIBILITY = "FULL_TRANSITIVE"  # tests/contract/schemas/test_schemas.py holds it
MAX_BODY = 256 * 1024  # many times the longest schema
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
Document = dict[str, Any]


class Unanswerable(CJStreamError):
    """A question that has no answer, in the registry's own terms."""

    def __init__(
        self, status: int, code: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class RegistryRoute(APIRoute):
    """A route whose refusals have the registry's form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, its refusals translated."""
        answered = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await answered(request)
            except Unanswerable as fault:
                return _refusal(fault.status, fault.code, str(fault), fault.headers)
            except Problem as fault:
                return _refusal(fault.kind.status, fault.kind.status, str(fault), fault.headers)

        return handle


class RegisteredVersions:
    """The versions of a catalogue, by subject and by schema id."""

    def __init__(self, all_versions: Iterable[SubjectVersion]) -> None:
        self.subjects = dict[str, list[SubjectVersion]]()
        self._ids = dict[int, list[SubjectVersion]]()
        for version in all_versions:
            self.subjects.setdefault(version.subject, []).append(version)
            self._ids.setdefault(version.schema_id, []).append(version)

    def of(self, subject: str) -> Sequence[SubjectVersion]:
        """The versions of a subject, the oldest first."""
        if subject not in self.subjects:
            raise Unanswerable(404, 40401, "subject not found")
        return self.subjects[subject]

    def one(self, subject: str, number: str) -> SubjectVersion:
        """A version by its number, or the newest as `latest` or -1."""
        found = self.of(subject)
        if number in ("latest", "-1"):
            return found[-1]
        if _whole(number) < 1:
            raise Unanswerable(422, 42202, "a version is a whole number from 1 on, or latest")
        for version in found:
            if version.version == _whole(number):
                return version
        raise Unanswerable(404, 40402, "version not found")

    def under(self, schema_id: str) -> Sequence[SubjectVersion]:
        """The versions that bear a schema id."""
        if _whole(schema_id) not in self._ids:
            raise Unanswerable(404, 40403, "schema not found")
        return self._ids[_whole(schema_id)]

    def like(self, subject: str, form: str) -> SubjectVersion | None:
        """The newest version of a subject that has this canonical form."""
        found = reversed(self.subjects.get(subject, []))
        return next((version for version in found if version.form == form), None)


def router(topics: Topics, *, callers: Sequence[Depends] = ()) -> APIRouter:
    """The routes under /registry; callers is what those who ask have to pass."""
    known = RegisteredVersions(subject_versions(topics))
    routes = APIRouter(
        prefix=PREFIX, tags=["registry"], dependencies=list(callers), route_class=RegistryRoute
    )
    _by_id(routes, known)
    _by_subject(routes, known)
    _settings(routes, known)

    @routes.api_route("/{rest:path}", methods=METHODS, include_in_schema=False)
    async def nothing_else(request: Request) -> Response:
        """Other paths, and other methods: nothing is changed here."""
        allowed = _methods_of(routes, request)
        if not allowed:
            raise Unanswerable(404, 404, "no such route")
        raise Unanswerable(405, 405, "method not allowed", {"Allow": ", ".join(sorted(allowed))})

    return routes


def _by_id(routes: APIRouter, known: RegisteredVersions) -> None:
    @routes.get("/schemas/types")
    async def types() -> Response:
        return _json(["AVRO"])

    @routes.get("/schemas/ids/{schema_id}")
    async def by_id(schema_id: str) -> Response:
        return _json({"schema": known.under(schema_id)[0].schema})

    @routes.get("/schemas/ids/{schema_id}/schema")
    async def bare_by_id(schema_id: str) -> Response:
        return _bare(known.under(schema_id)[0])

    @routes.get("/schemas/ids/{schema_id}/subjects")
    async def subjects_by_id(schema_id: str) -> Response:
        return _json([version.subject for version in known.under(schema_id)])

    @routes.get("/schemas/ids/{schema_id}/versions")
    async def versions_by_id(schema_id: str) -> Response:
        found = known.under(schema_id)
        return _json([{"subject": one.subject, "version": one.version} for one in found])


def _by_subject(routes: APIRouter, known: RegisteredVersions) -> None:
    @routes.get("/subjects")
    async def subjects() -> Response:
        return _json(sorted(known.subjects))

    @routes.get("/subjects/{subject}/versions")
    async def numbers(subject: str) -> Response:
        return _json([version.version for version in known.of(subject)])

    @routes.get("/subjects/{subject}/versions/{number}")
    async def version(subject: str, number: str) -> Response:
        return _json(_document(known.one(subject, number)))

    @routes.get("/subjects/{subject}/versions/{number}/schema")
    async def bare_version(subject: str, number: str) -> Response:
        return _bare(known.one(subject, number))

    @routes.post("/subjects/{subject}")
    async def look_up(subject: str, request: Request) -> Response:
        known.of(subject)
        found = known.like(subject, await _form(request))
        if found is None:
            raise Unanswerable(404, 40403, "schema not found")
        return _json(_document(found))

    @routes.post("/subjects/{subject}/versions")
    async def register(subject: str, request: Request) -> Response:
        found = known.like(subject, await _form(request))
        if found is None:
            raise Unanswerable(422, 42205, "this registry is read-only: nothing is registered")
        return _json({"id": found.schema_id})


def _settings(routes: APIRouter, known: RegisteredVersions) -> None:
    @routes.get("/config")
    async def config() -> Response:
        return _json({"compatibilityLevel": COMPATIBILITY})

    @routes.get("/config/{subject}")
    async def config_of(subject: str) -> Response:
        known.of(subject)
        return _json({"compatibilityLevel": COMPATIBILITY})

    @routes.get("/mode")
    async def mode() -> Response:
        return _json({"mode": "READONLY"})


async def _form(request: Request) -> str:
    """The canonical form of the schema in the body."""
    body = await read_body(request, MAX_BODY)
    try:
        return canonical(orjson.loads(body)["schema"])
    except (orjson.JSONDecodeError, LookupError, TypeError, Malformed) as fault:
        raise Unanswerable(422, 42201, "the body holds no valid Avro schema") from fault


def _methods_of(routes: APIRouter, request: Request) -> set[str]:
    """The methods of the route that this path belongs to."""
    return {
        method
        for route in routes.routes
        if isinstance(route, APIRoute) and route.matches(request.scope)[0] == Match.PARTIAL
        for method in route.methods or ()
    }


def _whole(text: str) -> int:
    """A number that a client wrote, or -1."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1


def _document(version: SubjectVersion) -> Document:
    return {
        "subject": version.subject,
        "version": version.version,
        "id": version.schema_id,
        "schema": version.schema,
    }


def _json(answer: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(answer), status, headers, MEDIA_TYPE)


def _bare(version: SubjectVersion) -> Response:
    return Response(version.schema, media_type=MEDIA_TYPE)


def _refusal(status: int, code: int, message: str, headers: Mapping[str, str] | None) -> Response:
    return _json({"error_code": code, "message": message}, status, headers)
