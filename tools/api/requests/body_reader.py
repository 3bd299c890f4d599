"""Reads requests by hand: the body up to a limit, JSON only if it is unambiguous."""

import asyncio
import json
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.requests import Request

from tools.api.errors.problems import Problem

MAX_BODY_BYTES = 1024 * 1024
MAX_FIELDS = 1000
LARGE_BYTES = 64 * 1024
JSON = ("application/json",)
MERGE_PATCH = ("application/json", "application/merge-patch+json")


def check_media_type(request: Request, supported: tuple[str, ...]) -> None:
    """Raise 415 unless the body has a supported media type and is in UTF-8."""
    header = Message()
    header["content-type"] = request.headers.get("content-type", "none/none")
    is_utf8 = str(header.get_param("charset", "utf-8")).lower() in ("utf-8", "utf8")
    if header.get_content_type() not in supported or not is_utf8:
        raise Problem(
            "unsupported-media-type",
            f"the body must be {' or '.join(supported)} in UTF-8",
            supported=list(supported),
        )


async def read_body(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body. Raises 413 at the first byte over `max_bytes`, with or without a Content-Length."""
    content_length = request.headers.get("content-length", "0")
    parts = list[bytes]()
    remaining = max_bytes - (int(content_length) if content_length.isdigit() else 0)
    if remaining >= 0:
        remaining = max_bytes
        async for part in request.stream():
            parts.append(part)
            remaining -= len(part)
            if remaining < 0:
                break
    if remaining < 0:
        raise Problem("payload-too-large", f"more than {max_bytes} bytes", limit_bytes=max_bytes)
    return b"".join(parts)


async def read_json(request: Request) -> Any:
    """The JSON value of the body. Raises 413, and what `parse_json` raises."""
    body = await read_body(request)
    if len(body) < LARGE_BYTES:
        return parse_json(body)
    return await asyncio.to_thread(parse_json, body)  # a megabyte of objects takes half a second


def parse_json(body: bytes) -> Any:
    """The JSON value of a body. Raises 400 for invalid JSON and for a repeated key."""
    try:
        return DECODER.decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError as fault:
        line = body.count(b"\n", 0, fault.start) + 1
        column = fault.start - body.rfind(b"\n", 0, fault.start)
        raise _malformed("not UTF-8", line, column) from None
    except json.JSONDecodeError as fault:
        reason = fault.msg.partition(":")[0]
        raise _malformed(f"not JSON: {reason}", fault.lineno, fault.colno) from None
    except RecursionError:
        raise _malformed("nested too deeply", 1, 1) from None
    except ValueError as fault:
        raise _malformed(str(fault)[:80], 1, 1) from None


def check_request_target(request: Request) -> None:
    """Raise 400 for a path or query that is not UTF-8, and for a repeated parameter."""
    query: bytes = request.scope["query_string"]
    for where, part in (("path", request.scope.get("raw_path") or b""), ("query", query)):
        try:
            unquote_to_bytes(part.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            raise Problem("malformed-request", f"{where}: not UTF-8", where=where) from None
    names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    if len(set(names)) < len(names):
        raise Problem("malformed-request", "query: a parameter is given twice", where="query")


def _malformed(detail: str, line: int, column: int) -> Problem:
    return Problem("malformed-request", detail, where=f"line {line}, column {column}")


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_FIELDS:  # each unknown one would become a fault
        raise ValueError(f"an object of more than {MAX_FIELDS} fields")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is given twice")
    if any("\ud800" <= character <= "\udfff" for name in fields for character in name):
        raise ValueError("a lone surrogate in a field's name")
    return fields


def _refuse_constant(_constant: str) -> object:
    raise ValueError("NaN and Infinity are not JSON numbers")


def _parse_int(digits: str) -> int:
    if len(digits) > 400:  # before Python's own limit, whose message is about Python
        raise ValueError("a number of more than 400 digits")
    return int(digits)


DECODER = json.JSONDecoder(
    object_pairs_hook=_refuse_repeated_keys, parse_constant=_refuse_constant, parse_int=_parse_int
)
