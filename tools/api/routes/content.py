"""The content routes: texts by their sha256, stored and read whole or in part, never deleted."""

import base64
import hashlib
import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.params import Depends

from schemas.errors import ContentMissing
from schemas.field_limits import SHA256
from tables.content_store import PLAIN_TEXT, StoredText
from tools.api.errors.problems import Problem
from tools.api.errors.validation_errors import fault_at, invalid
from tools.api.requests.body_reader import read_body
from tools.api.services.async_content_store import AsyncContentStore

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
PARAMETER = rf'[ \t]*;[ \t]*{TOKEN}=(?:{TOKEN}|"(?:[\t !#-\[\]-~]|\\[\t -~])*")'
MEDIA_TYPE = re.compile(rf"{TOKEN}/{TOKEN}(?:{PARAMETER})*")
LONGEST_MEDIA_TYPE = 255
DIGEST = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):(?:;[^,]*)?[ \t]*")
ONE_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*", re.IGNORECASE)
TAGS = re.compile(r'(?:W/)?"([^"]*)"')
SAFE = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox",
}
T = TypeVar("T")


def router(
    contents: AsyncContentStore,
    max_bytes: int,
    *,
    readers: Sequence[Depends] = (),
    writers: Sequence[Depends] = (),
) -> APIRouter:
    """The routes under /v1/content; readers and writers are what callers have to pass."""
    routes = APIRouter(prefix="/v1/content", tags=["content"])

    @routes.post("", dependencies=writers, status_code=201, responses=POST_ANSWERS)
    async def store_content(request: Request) -> Response:
        """Store the body's bytes under their sha256: 201, or 200 if they were there."""
        media_type = _media_type(request)
        text = await read_body(request, max_bytes)
        if not text:
            raise invalid([fault_at("body", "too_short", 1)])
        _refuse_wrong_digest(request, text)
        stored = await contents.put(text, media_type)
        document = {
            "storage_id": stored.storage_id,
            "size_bytes": stored.size_bytes,
            "media_type": stored.media_type,
        }
        headers = {"Location": f"/v1/content/{stored.storage_id}", "Cache-Control": "no-store"}
        return Response(
            orjson.dumps(document), 200 if stored.existed else 201, headers, "application/json"
        )

    @routes.get("/{storage_id}", dependencies=readers, responses=GET_ANSWERS)
    async def read_content(storage_id: str, request: Request) -> Response:
        """The bytes as they were stored, or one range of them."""
        _refuse_malformed(storage_id)
        stored = await _found(contents.head(storage_id), storage_id)
        if _has_it(request, storage_id):
            return _nothing_new(stored)
        return _answer(request, stored, await _found(contents.get(storage_id), storage_id))

    @routes.head("/{storage_id}", dependencies=readers, responses=GET_ANSWERS)
    async def look_at_content(storage_id: str, request: Request) -> Response:
        """What GET would answer without a range, the bytes checked but not sent."""
        _refuse_malformed(storage_id)
        stored = await _found(contents.head(storage_id), storage_id)
        if _has_it(request, storage_id):
            return _nothing_new(stored)
        size = len(await _found(contents.get(storage_id), storage_id))
        return Response(headers={**_headers(stored), "Content-Length": str(size)})

    return routes


def _refuse_malformed(storage_id: str) -> None:
    if not SHA256.fullmatch(storage_id):
        raise invalid([fault_at("path/storage_id", "invalid_characters")])


async def _found(asked: Awaitable[T], storage_id: str) -> T:
    try:
        return await asked
    except ContentMissing as fault:
        raise Problem(
            "resource-not-found",
            "no content of this id",
            resource_type="content",
            resource_id=storage_id,
            deleted=False,
        ) from fault


def _media_type(request: Request) -> str:
    sent = request.headers.get("content-type", PLAIN_TEXT).strip()
    if len(sent) > LONGEST_MEDIA_TYPE or not MEDIA_TYPE.fullmatch(sent):
        raise Problem("malformed-request", "not a media type", where="Content-Type")
    return sent


def _refuse_wrong_digest(request: Request, text: bytes) -> None:
    """Hold the text against Content-Digest (RFC 9530); algorithms other than sha-256 are passed over."""
    if told := ",".join(request.headers.getlist("content-digest")):
        digest = _digests(told).get("sha-256")
        if digest is not None and digest != hashlib.sha256(text).digest():
            raise invalid([fault_at("header/Content-Digest", "invalid_digest")])


def _digests(told: str) -> Mapping[str, bytes]:
    digests = dict[str, bytes]()
    for member in told.split(","):
        one = DIGEST.fullmatch(member)
        try:
            if one is None:
                raise ValueError("no algorithm=:base64:")
            digests[one[1]] = base64.b64decode(one[2], validate=True)
        except ValueError as fault:
            detail = "not a digest as in RFC 9530"
            raise Problem("malformed-request", detail, where="Content-Digest") from fault
    return digests


def _has_it(request: Request, storage_id: str) -> bool:
    told = ",".join(request.headers.getlist("if-none-match"))
    return told.strip() == "*" or storage_id in TAGS.findall(told)


def _headers(stored: StoredText) -> dict[str, str]:
    return {
        **SAFE,
        "ETag": f'"{stored.storage_id}"',
        "Accept-Ranges": "bytes",
        "Content-Type": stored.media_type,
    }


def _nothing_new(stored: StoredText) -> Response:
    headers = _headers(stored)
    del headers["Content-Type"]
    return Response(status_code=304, headers=headers)


def _answer(request: Request, stored: StoredText, text: bytes) -> Response:
    asked = _range(request, stored)
    if asked is None:
        return Response(text, 200, _headers(stored))
    first, last = _bounds(asked, len(text))
    if first > last:
        raise Problem(
            "range-not-satisfiable",
            "no byte of the content is in this range",
            headers={"Content-Range": f"bytes */{len(text)}"},
            size_bytes=len(text),
        )
    told = {"Content-Range": f"bytes {first}-{last}/{len(text)}"}
    return Response(text[first : last + 1], 206, {**_headers(stored), **told})


def _range(request: Request, stored: StoredText) -> re.Match[str] | None:
    """The one range that is asked for; what is no such range is passed over, as HTTP has it."""
    condition = request.headers.get("if-range")
    if condition is not None and condition.strip() != f'"{stored.storage_id}"':
        return None
    asked = ONE_RANGE.fullmatch(",".join(request.headers.getlist("range")))
    if asked and asked[2] and _number(asked[2]) < _number(asked[1]):
        return None  # not valid: the end stands before the start
    return asked


def _bounds(asked: re.Match[str], size: int) -> tuple[int, int]:
    """First and last byte; the first is after the last where there is none."""
    if asked[3]:
        return max(0, size - _number(asked[3])), size - 1
    return _number(asked[1]), min(_number(asked[2]) if asked[2] else size, size - 1)


def _number(digits: str) -> int:
    return int(digits.lstrip("0")[:20] or 0)  # beyond every size; Python refuses to read thousands


POST_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "It was stored already; its age is renewed"},
    201: {"description": "Stored"},
}
GET_ANSWERS: dict[int | str, dict[str, Any]] = {
    206: {"description": "One range of the bytes"},
    304: {"description": "The client has it"},
}
