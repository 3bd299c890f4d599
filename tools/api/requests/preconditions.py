"""If-Match and If-None-Match of a write, as the condition that the log is asked to hold."""

import re

from starlette.requests import Request

from schemas.errors import Malformed
from tables.etags import ANY, Condition, parse_assignment_etag, parse_etag
from tools.api.errors.problems import Problem

ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
LONGEST = 4096


def condition_of(request: Request, *, required: bool) -> Condition:
    """The condition in the headers; required: a write without one is to be refused. Raises 400."""
    return Condition(
        if_match=_if_match(request),
        if_none_match_any=_if_none_match(request),
        required=required,
    )


def _if_match(request: Request) -> tuple[str, ...] | None:
    """The strong tags; weak ones match nothing, so only weak ones is an empty tuple."""
    sent = _sent(request, "If-Match")
    if sent is None:
        return None
    if sent == ANY:
        return (ANY,)
    elements = [element for part in sent.split(",") if (element := part.strip())]
    found = [ENTITY_TAG.fullmatch(element) for element in elements]
    if not elements or None in found:
        raise _malformed("If-Match", '`*`, or tags such as "3-41" with commas between')
    strong = [tag[2] for tag in found if tag and not tag[1]]
    for tag in strong:
        _refuse_foreign(tag)
    return tuple(strong)


def _refuse_foreign(tag: str) -> None:
    try:
        parse_assignment_etag(tag) if tag.startswith("i") else parse_etag(tag)
    except Malformed as fault:
        raise _malformed("If-Match", str(fault)) from None


def _if_none_match(request: Request) -> bool:
    sent = _sent(request, "If-None-Match")
    if sent is None:
        return False
    if sent != ANY:
        raise _malformed("If-None-Match", "a write takes `*` only")
    return True


def _sent(request: Request, header: str) -> str | None:
    """A header's value; more than one line of it is one list."""
    lines = request.headers.getlist(header)
    if sum(map(len, lines)) > LONGEST:
        raise _malformed(header, f"more than {LONGEST} characters")
    return ", ".join(lines).strip() if lines else None


def _malformed(header: str, expected: str) -> Problem:
    return Problem("malformed-request", f"{header}: {expected}", where=header)
