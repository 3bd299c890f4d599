"""What a request brings, read by hand: its body within a bound, its JSON without second meanings."""

import json
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.requests import Request

from tools.api.errors.problems import Problem

MAX_BODY = 1024 * 1024
JSON = ("application/json",)
MERGE_PATCH = ("application/json", "application/merge-patch+json")


def refuse_other_media(request: Request, supported: tuple[str, ...]) -> None:
    """Raise 415 unless the body is of a supported type, in UTF-8."""
    told = Message()
    told["content-type"] = request.headers.get("content-type", "none/none")
    is_utf8 = str(told.get_param("charset", "utf-8")).lower() in ("utf-8", "utf8")
    if told.get_content_type() not in supported or not is_utf8:
        raise Problem(
            "unsupported-media-type",
            f"the body is to be {' or '.join(supported)} in UTF-8",
            supported=list(supported),
        )


async def read_body(request: Request, most: int = MAX_BODY) -> bytes:
    """The whole body. Raises 413 at the first byte over `most`, whether or not its length was told."""
    told = request.headers.get("content-length", "0")
    parts = list[bytes]()
    left = most - (int(told) if told.isdigit() else 0)
    if left >= 0:
        left = most
        async for part in request.stream():
            parts.append(part)
            left -= len(part)
            if left < 0:
                break
    if left < 0:
        raise Problem("payload-too-large", f"more than {most} bytes", limit_bytes=most)
    return b"".join(parts)


def parse_json(body: bytes) -> Any:
    """The JSON value of a body. Raises 400 for what is none, and for a key that stands there twice."""
    try:
        return DECODER.decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError as fault:
        line = body.count(b"\n", 0, fault.start) + 1
        column = fault.start - body.rfind(b"\n", 0, fault.start)
        raise _malformed("not UTF-8", line, column) from None
    except json.JSONDecodeError as fault:
        told = fault.msg.partition(":")[0]
        raise _malformed(f"not JSON: {told}", fault.lineno, fault.colno) from None
    except RecursionError:
        raise _malformed("nested too deeply", 1, 1) from None
    except ValueError as fault:
        raise _malformed(str(fault)[:80], 1, 1) from None


def refuse_bad_target(request: Request) -> None:
    """Raise 400 for a path or query that is not UTF-8, and for a parameter that is given twice."""
    query: bytes = request.scope["query_string"]
    for where, part in (("path", request.scope.get("raw_path") or b""), ("query", query)):
        try:
            unquote_to_bytes(part.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            raise Problem("malformed-request", f"{where}: not UTF-8", where=where) from None
    names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    if len(set(names)) < len(names):
        raise Problem("malformed-request", "query: a parameter stands there twice", where="query")


def _malformed(detail: str, line: int, column: int) -> Problem:
    return Problem("malformed-request", detail, where=f"line {line}, column {column}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands there twice")
    if any("\ud800" <= character <= "\udfff" for name in found for character in name):
        raise ValueError("a lone surrogate in a field's name")
    return found


def _no_number(_constant: str) -> object:
    raise ValueError("NaN and Infinity are no JSON numbers")


def _whole(digits: str) -> int:
    if len(digits) > 400:  # Python's own bound speaks of itself
        raise ValueError("a number of more than 400 digits")
    return int(digits)


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number, parse_int=_whole)
