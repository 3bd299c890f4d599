"""The OpenAPI document: what each route answers, refusals included, and what headers it reads."""

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
BEARER = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
ADMITTED: Slugs = ("malformed-request", "unauthenticated", "forbidden", "rate-limited")
ADMITTED += ("validation-failed", "internal-error", "auth-keys-unavailable", "method-not-allowed")
BODY = ("payload-too-large", "unsupported-media-type")
LOG = ("replica-behind", "log-unavailable")
CONTENT: Slugs = ("content-missing", "content-corrupt", "content-backend-error")
CONTENT += ("content-unavailable", "content-timeout")
CONDITION = ("version-mismatch", "precondition-required")
APPEND = ("resource-not-found", "writer-contended", "outcome-unknown")

CONSTANT = ADMITTED
LISTED = (*ADMITTED, *LOG, *CONTENT)
READINESS = (*ADMITTED, *LOG, *CONTENT)
READ = (*ADMITTED, *LOG, *CONTENT, "resource-not-found")
PAST = (*ADMITTED, *LOG, *CONTENT)
STREAMED = (*ADMITTED, *LOG)
FOUND = (*ADMITTED, *LOG, *CONTENT, "resource-not-found")
STOOD = (*READ, "history-compacted")
DELETED = (*ADMITTED, *LOG, *CONDITION, *APPEND)
WRITTEN = (*ADMITTED, *BODY, *LOG, *CONTENT, *CONDITION, *APPEND, "immutable-field")
WRITTEN_OR_CREATED = (*WRITTEN, "created")

OF_CONTENT: Slugs = (*ADMITTED, *CONTENT, "resource-not-found", "payload-too-large")
OF_CONTENT += ("range-not-satisfiable",)

TEXT = {"type": "string"}
BYTES = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
DIGEST = {"type": "string", "pattern": f"^{SHA256.pattern}$", "description": "sha256 of the bytes"}
ONE_TAG = r'(W/)?"(0|[1-9][0-9]{0,17}-[0-9]{1,17})"'
ETAG = {"description": "The tag of what is shown", "schema": TEXT}
POSITION = {"description": "topic/partition@offset of each event appended", "schema": TEXT}
CORRELATION = {
    "name": "X-Correlation-ID",
    "in": "header",
    "description": "Comes back, and stands in events and logs; what is no UUID becomes one",
    "schema": TEXT,
}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": 'Tags such as "3-41", of which one must be that of the live state, or *',
    "schema": {
        "type": "string",
        "pattern": rf"^(\*|{ONE_TAG}(, {ONE_TAG})*)$",
        "examples": ['"3-41"'],
    },
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "* where nothing may be live yet",
    "schema": {"type": "string", "enum": ["*"]},
}


class FieldFault(BaseModel):
    """One value that breaks a rule."""

    location: str
    code: str
    message: str
    limit: int = 0


class ProblemDocument(BaseModel):
    """A problem (RFC 9457); which further members it has depends on its type."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": f"{URN}version-mismatch",
                    "title": "Version mismatch",
                    "status": 412,
                    "detail": "instructions: the tag is not the one that was expected",
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


def shows(document: type[ResponseModel], slugs: Slugs) -> dict[str, Any]:
    """What a route's decorator is told: its document, its refusals and the headers that it reads."""
    is_write = "version-mismatch" in slugs
    headers = {"X-Position": POSITION, "ETag": ETAG} if is_write else {"ETag": ETAG}
    good: dict[int | str, dict[str, Any]] = {200: {"headers": headers}}
    if is_write:
        late = "Committed, but not folded by this process yet"
        good[202] = {"model": document, "description": late, "headers": headers}
    if "created" in slugs:
        good[201] = {"model": document, "description": "Created", "headers": headers}
    return {
        "response_model": document,
        "responses": {**good, **refusals(slugs)},
        "openapi_extra": {"parameters": [IF_MATCH, IF_NONE_MATCH] if is_write else []},
    }


def streams(line: str, slugs: Slugs) -> dict[str, Any]:
    """What a route's decorator is told whose answer is JSON lines: objects under this name, then the summary."""
    told = f'Lines {{"{line}": …}}, the last one {{"summary": …}}'
    content = {"application/x-ndjson": {"schema": TEXT}}
    good: dict[int | str, dict[str, Any]] = {200: {"description": told, "content": content}}
    return {"responses": {**good, **refusals(slugs)}, "response_class": StreamingResponse}


def refusals(slugs: Slugs) -> dict[int | str, dict[str, Any]]:
    """Problems by status."""
    answers: dict[int | str, dict[str, Any]] = {}
    for slug, kind in KINDS.items():
        if slug in slugs:
            known = answers.get(kind.status)
            told = f"{known['description']}; {kind.title}" if known else kind.title
            content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
            answers[kind.status] = {"description": told, "content": content}
    return answers


def describe(app: FastAPI) -> None:
    """Give the application its document; it is made when it is first asked for."""

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
    """Content goes in and comes out as it is, of any type."""
    if method == "post":
        # of any type; a client that reads this has to choose one
        told = {"required": True, "content": {"application/octet-stream": BYTES}}
        operation["requestBody"] = told
        return
    operation["parameters"][0]["schema"] = DIGEST
    for status in ("200", "206"):
        operation["responses"][status]["content"] = {"*/*": BYTES} if method == "get" else {}
