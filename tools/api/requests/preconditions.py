"""If-Match and If-None-Match of a write, as the condition that the log checks."""

import re

from starlette.requests import Request

from schemas.errors import Malformed
from tables.etags import ANY, Condition, parse_assignment_etag, parse_etag
from tools.api.errors.problems import Problem

ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
MAX_LENGTH = 4096


def condition_of(request: Request, *, required: bool) -> Condition:
    """The condition in the headers; `required`: whether a write without one is refused. Raises 400."""
    return Condition(
        if_match=_if_match(request),
        if_none_match_any=_if_none_match(request),
        required=required,
    )


def _if_match(request: Request) -> tuple[str, ...] | None:
    """The strong etags; weak ones match nothing, so a list of only weak ones becomes an empty tuple."""
    value = _header_value(request, "If-Match")
    if value is None:
        return None
    if value == ANY:
        return (ANY,)
    elements = [element for part in value.split(",") if (element := part.strip())]
    matches = [ENTITY_TAG.fullmatch(element) for element in elements]
    if not elements or None in matches:
        raise _malformed("If-Match", '`*`, or etags such as "3-41", separated by commas')
    strong = [match[2] for match in matches if match and not match[1]]
    for etag in strong:
        _check_etag(etag)
    return tuple(strong)


def _check_etag(etag: str) -> None:
    try:
        parse_assignment_etag(etag) if etag.startswith("i") else parse_etag(etag)
    except Malformed as fault:
        raise _malformed("If-Match", str(fault)) from None


def _if_none_match(request: Request) -> bool:
    value = _header_value(request, "If-None-Match")
    if value is None:
        return False
    if value != ANY:
        raise _malformed("If-None-Match", "a write accepts only `*`")
    return True


def _header_value(request: Request, header: str) -> str | None:
    """The value of a header; several lines of it form one list."""
    lines = request.headers.getlist(header)
    if sum(map(len, lines)) > MAX_LENGTH:
        raise _malformed(header, f"more than {MAX_LENGTH} characters")
    return ", ".join(lines).strip() if lines else None


def _malformed(header: str, expected: str) -> Problem:
    return Problem("malformed-request", f"{header}: {expected}", where=header)
