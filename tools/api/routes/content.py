"""The content routes: store a text under its sha256, and read it completely or in part; nothing is deleted."""

import base64
import hashlib
import re
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, Depends, Request, Response

from schemas.errors import ContentMissing
from schemas.field_limits import SHA256
from tables.content_store import PLAIN_TEXT, StoredText
from tools.api.admission import RoleCheck
from tools.api.auth.authentication import CONTENT_WRITERS, READERS
from tools.api.dependencies import Dependencies, Deps
from tools.api.errors.problems import Problem, not_found
from tools.api.errors.validation_errors import fault_at, invalid
from tools.api.requests.body_reader import read_body
from tools.api.requests.plain_body import check_is_text, check_not_wrapped
from tools.api.responses.openapi import CONTENT_ROUTES, problem_responses

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
PARAMETER = rf'[ \t]*;[ \t]*{TOKEN}=(?:{TOKEN}|"(?:[\t !#-\[\]-~]|\\[\t -~])*")'
MEDIA_TYPE = re.compile(rf"{TOKEN}/{TOKEN}(?:{PARAMETER})*")
MAX_MEDIA_TYPE_LENGTH = 255
DIGEST = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):(?:;[^,]*)?[ \t]*")
ONE_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*", re.IGNORECASE)
ENTITY_TAGS = re.compile(r'(?:W/)?"([^"]*)"')
SAFE_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox",
}
T = TypeVar("T")


POST_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The text was stored already; its age is reset"},
    201: {"description": "Stored"},
}
GET_RESPONSES: dict[int | str, dict[str, Any]] = {
    206: {"description": "One range of the bytes"},
    304: {"description": "The client has this content already"},
}
routes = APIRouter(
    prefix="/v1/content", tags=["content"], responses=problem_responses(CONTENT_ROUTES)
)


@routes.post(
    "",
    dependencies=[Depends(RoleCheck(CONTENT_WRITERS))],
    status_code=201,
    responses=POST_RESPONSES,
)
async def store_content(request: Request, deps: Deps) -> Response:
    """Store the bytes of the body, unchanged, under their sha256: 201, or 200 if they were stored already."""
    media_type = _media_type(request)
    check_not_wrapped(request)
    text = await read_body(request, deps.settings.content_max_bytes)
    if not text:
        raise invalid([fault_at("body", "too_short", 1)])
    check_is_text(media_type, text)
    _check_digest(request, text)
    stored = await deps.content.put(text, media_type)
    document = {
        "storage_id": stored.storage_id,
        "size_bytes": stored.size_bytes,
        "media_type": stored.media_type,
    }
    headers = {"Location": f"/v1/content/{stored.storage_id}", "Cache-Control": "no-store"}
    return Response(
        orjson.dumps(document), 200 if stored.existed else 201, headers, "application/json"
    )


@routes.get("/{storage_id}", dependencies=[Depends(RoleCheck(READERS))], responses=GET_RESPONSES)
async def read_content(storage_id: str, request: Request, deps: Deps) -> Response:
    """The stored bytes, or one range of them."""
    stored = await _stored(storage_id, deps)
    if _client_has_it(request, storage_id):
        return _not_modified(stored)
    text = await _or_not_found(deps.content.get(storage_id), storage_id)
    return _content_response(request, stored, text)


@routes.head("/{storage_id}", dependencies=[Depends(RoleCheck(READERS))], responses=GET_RESPONSES)
async def look_at_content(storage_id: str, request: Request, deps: Deps) -> Response:
    """The headers of GET without a range; the bytes are checked but not sent."""
    stored = await _stored(storage_id, deps)
    if _client_has_it(request, storage_id):
        return _not_modified(stored)
    size = len(await _or_not_found(deps.content.get(storage_id), storage_id))
    return Response(headers={**_headers(stored), "Content-Length": str(size)})


async def _stored(storage_id: str, deps: Dependencies) -> StoredText:
    if not SHA256.fullmatch(storage_id):
        raise invalid([fault_at("path/storage_id", "invalid_characters")])
    return await _or_not_found(deps.content.head(storage_id), storage_id)


async def _or_not_found(result: Awaitable[T], storage_id: str) -> T:
    try:
        return await result
    except ContentMissing as fault:
        raise not_found("content", storage_id) from fault


def _media_type(request: Request) -> str:
    value = request.headers.get("content-type", PLAIN_TEXT).strip()
    if len(value) > MAX_MEDIA_TYPE_LENGTH or not MEDIA_TYPE.fullmatch(value):
        raise Problem("malformed-request", "not a media type", where="Content-Type")
    return value


def _check_digest(request: Request, text: bytes) -> None:
    """Compare the text with Content-Digest (RFC 9530), ignoring algorithms other than sha-256; raise 422 or 400."""
    if value := ",".join(request.headers.getlist("content-digest")):
        digest = _digests(value).get("sha-256")
        if digest is not None and digest != hashlib.sha256(text).digest():
            raise invalid([fault_at("header/Content-Digest", "invalid_digest")])


def _digests(value: str) -> Mapping[str, bytes]:
    digests = dict[str, bytes]()
    for member in value.split(","):
        match = DIGEST.fullmatch(member)
        try:
            if match is None:
                raise ValueError("not algorithm=:base64:")
            digests[match[1]] = base64.b64decode(match[2], validate=True)
        except ValueError as fault:
            detail = "not a digest as defined in RFC 9530"
            raise Problem("malformed-request", detail, where="Content-Digest") from fault
    return digests


def _client_has_it(request: Request, storage_id: str) -> bool:
    value = ",".join(request.headers.getlist("if-none-match"))
    return value.strip() == "*" or storage_id in ENTITY_TAGS.findall(value)


def _headers(stored: StoredText) -> dict[str, str]:
    return {
        **SAFE_HEADERS,
        "ETag": f'"{stored.storage_id}"',
        "Accept-Ranges": "bytes",
        "Content-Type": stored.media_type,
    }


def _not_modified(stored: StoredText) -> Response:
    headers = _headers(stored)
    del headers["Content-Type"]
    return Response(status_code=304, headers=headers)


def _content_response(request: Request, stored: StoredText, text: bytes) -> Response:
    requested = _range(request, stored)
    if requested is None:
        return Response(text, 200, _headers(stored))
    first, last = _bounds(requested, len(text))
    if first > last:
        raise Problem(
            "range-not-satisfiable",
            "the range contains no byte of the content",
            headers={"Content-Range": f"bytes */{len(text)}"},
            size_bytes=len(text),
        )
    content_range = {"Content-Range": f"bytes {first}-{last}/{len(text)}"}
    return Response(text[first : last + 1], 206, {**_headers(stored), **content_range})


def _range(request: Request, stored: StoredText) -> re.Match[str] | None:
    """The requested range; None if there is not exactly one valid range, which HTTP says to ignore."""
    condition = request.headers.get("if-range")
    if condition is not None and condition.strip() != f'"{stored.storage_id}"':
        return None
    match = ONE_RANGE.fullmatch(",".join(request.headers.getlist("range")))
    if match and match[2] and _number(match[2]) < _number(match[1]):
        return None  # invalid: the end is before the start
    return match


def _bounds(requested: re.Match[str], size: int) -> tuple[int, int]:
    """The offsets of the first and the last byte; first > last if the range contains no byte."""
    if requested[3]:
        return max(0, size - _number(requested[3])), size - 1
    last = _number(requested[2]) if requested[2] else size
    return _number(requested[1]), min(last, size - 1)


def _number(digits: str) -> int:
    # 20 digits exceed every size, and int() refuses to parse thousands of digits
    return int(digits.lstrip("0")[:20] or 0)
