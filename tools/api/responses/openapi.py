"""The OpenAPI document: the responses of each route, with its problems, and the headers that it reads."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict
from starlette.responses import StreamingResponse

from schemas.field_limits import SHA256
from tools.api.errors.problems import KINDS, MEDIA_TYPE, URN
from tools.api.responses.response_models import ResponseModel

Slugs = tuple[str, ...]
LINES = "application/x-ndjson"
BEARER = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
COMMON: Slugs = ("malformed-request", "unauthenticated", "forbidden", "rate-limited")
COMMON += ("too-many-in-progress", "request-timeout", "too-many-connections")
COMMON += ("validation-failed", "internal-error", "auth-keys-unavailable", "method-not-allowed")
BODY = ("payload-too-large", "unsupported-media-type")
LOG = ("replica-behind", "log-unavailable")
CONTENT: Slugs = ("content-missing", "content-corrupt", "content-backend-error")
CONTENT += ("content-unavailable", "content-timeout")
CONDITION = ("version-mismatch", "precondition-required")
APPEND = ("resource-not-found", "writer-contended", "outcome-unknown")

STATIC = COMMON
CHECKED = (*COMMON, *BODY, "judge-not-configured")
STREAMED = (*COMMON, *LOG)
READ_LOG = (*STREAMED, "resource-not-found")
READ_RUN = (*READ_LOG, "history-compacted")
GATED = (*STREAMED, "prompt-prerequisite")
READABLE = (*COMMON, *LOG, *CONTENT)
READ = (*READABLE, "resource-not-found")
READ_AS_OF = (*READ, "history-compacted")
DELETED = (*COMMON, *LOG, *CONDITION, *APPEND)
WRITTEN = (*COMMON, *BODY, *LOG, *CONTENT, *CONDITION, *APPEND, "immutable-field")
WRITTEN_OR_CREATED = (*WRITTEN, "created")

CONTENT_ROUTES: Slugs = (*COMMON, *CONTENT, *BODY, "resource-not-found")
CONTENT_ROUTES += ("range-not-satisfiable",)

TEXT = {"type": "string"}
BYTES = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
DIGEST = {"type": "string", "pattern": f"^{SHA256.pattern}$", "description": "sha256 of the bytes"}
ONE_ETAG = r'(W/)?"(0|[1-9][0-9]{0,17}-[0-9]{1,17})"'
ETAG = {"description": "The etag of the returned state", "schema": TEXT}
POSITION = {"description": "topic/partition@offset of each appended event", "schema": TEXT}
CORRELATION = {
    "name": "X-Correlation-ID",
    "in": "header",
    "description": "Returned, and written to events and logs; a value that is not a UUID is replaced by one",
    "schema": TEXT,
}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": 'Etags such as "3-41", one of which must match the live state, or * for any live state',
    "schema": {
        "type": "string",
        "pattern": rf"^(\*|{ONE_ETAG}(, {ONE_ETAG})*)$",
        "examples": ['"3-41"'],
    },
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "* to write only if nothing is live yet",
    "schema": {"type": "string", "enum": ["*"]},
}


class FieldFault(BaseModel):
    """One value that breaks a rule."""

    location: str
    code: str
    message: str
    limit: int = 0


class ProblemDocument(BaseModel):
    """A problem (RFC 9457); its additional members depend on its type."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": f"{URN}version-mismatch",
                    "title": "Version mismatch",
                    "status": 412,
                    "detail": "instructions: the current state does not match the condition",
                    "instance": "/admin/v1/assessment-instructions/assignment/eng5-a1",
                    "correlation_id": "0d7d3c9e-52a4-4d0e-9d0a-3f8f2d2f6a11",
                    "expected": "1-40",
                    "current_version": 2,
                    "current_tag": "2-57",
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    correlation_id: str
    errors: list[FieldFault] = []


def returns(document: type[ResponseModel], slugs: Slugs) -> dict[str, Any]:
    """Arguments of a route's decorator: its document, its problems and the headers that it reads."""
    is_write = "version-mismatch" in slugs
    headers = {"X-Position": POSITION, "ETag": ETAG} if is_write else {"ETag": ETAG}
    responses: dict[int | str, dict[str, Any]] = {200: {"headers": headers}}
    if is_write:
        not_folded = "Committed, but this process has not folded it yet"
        responses[202] = {"model": document, "description": not_folded, "headers": headers}
    if "created" in slugs:
        responses[201] = {"model": document, "description": "Created", "headers": headers}
    return {
        "response_model": document,
        "responses": {**responses, **problem_responses(slugs)},
        "openapi_extra": {"parameters": [IF_MATCH, IF_NONE_MATCH] if is_write else []},
    }


def returns_lines(name: str, slugs: Slugs) -> dict[str, Any]:
    """Arguments of a decorator of a route that returns JSON lines: objects under this name, then the summary."""
    description = f'Lines {{"{name}": …}}, and as the last line {{"summary": …}}'
    content = {LINES: {"schema": TEXT}}
    ok = {"description": description, "content": content}
    responses: dict[int | str, dict[str, Any]] = {200: ok, **problem_responses(slugs)}
    return {"responses": responses, "response_class": StreamingResponse}


def problem_responses(slugs: Slugs) -> dict[int | str, dict[str, Any]]:
    """The problems as OpenAPI responses, by status."""
    responses: dict[int | str, dict[str, Any]] = {}
    for slug, kind in KINDS.items():
        if slug in slugs:
            known = responses.get(kind.status)
            description = f"{known['description']}; {kind.title}" if known else kind.title
            content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
            responses[kind.status] = {"description": description, "content": content}
    return responses


def describe(app: FastAPI) -> None:
    """Set the application's OpenAPI document, which is built at the first request for it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=app.description,
                    routes=app.routes,
                )
            )
        return app.openapi_schema

    set_openapi: Callable[[], dict[str, Any]] = document
    app.openapi = set_openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    nested = problem.pop("$defs", {})
    components.setdefault("schemas", {}).update({**nested, "ProblemDocument": problem})
    components["securitySchemes"] = {"bearer": BEARER}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["security"] = [{"bearer": []}]
            operation.setdefault("parameters", []).append(CORRELATION)
            if path.startswith("/v1/content"):
                _describe_bytes(method, operation)
    return document


def _describe_bytes(method: str, operation: dict[str, Any]) -> None:
    """Describe the bodies of the content routes: bytes of any media type."""
    if method == "post":
        # every media type is accepted, but the document must name one for its readers
        body = {"required": True, "content": {"application/octet-stream": BYTES}}
        operation["requestBody"] = body
        return
    operation["parameters"][0]["schema"] = DIGEST
    for status in ("200", "206"):
        operation["responses"][status]["content"] = {"*/*": BYTES} if method == "get" else {}
