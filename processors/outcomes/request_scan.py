"""A request in its canonical encoding, checked in place: what it asks for is told without decoding it. Pure.

What the walk certifies, the slow path accepts too and would encode to the same bytes; whatever it does not
certify goes the slow path, which decides. A property test holds both to that.
"""

from functools import lru_cache
from typing import NamedTuple

from schemas.field_limits import MAX_ESSAYS, RULES, IdLimit, TextLimit

FRAME_BYTES = 5
SCANNED_VERSIONS = (1, 2)  # the versions of CJAssessmentRequested that can be checked in place
LONG_BYTES = 9  # of a non-negative long; a tenth byte is left to the slow path
TWO_BYTE_LENGTH = 8191  # longer strings are left to the slow path


class ScannedFields(NamedTuple):
    """What resolution needs to know of a request."""

    assignment_id: str | None
    course_code: str
    student_prompt_ref: str | None


def _most(name: str) -> int:
    rule = RULES[name]
    if not isinstance(rule, TextLimit | IdLimit):
        raise TypeError(f"{name} is no text")
    return min(rule.most, TWO_BYTE_LENGTH)


EVENT_ID, SOURCE_SERVICE, CORRELATION_ID = map(
    _most, ("event_id", "source_service", "correlation_id")
)
BATCH_ID, ASSIGNMENT_ID, COURSE_CODE = map(_most, ("batch_id", "assignment_id", "course_code"))
LANGUAGE, STUDENT_PROMPT_REF, USER_ID = map(_most, ("language", "student_prompt_ref", "user_id"))
ORG_ID, OVERRIDES = map(_most, ("org_id", "llm_config_overrides"))
ESSAY_PARTS = (_most("essay_id"), _most("text_storage_id"))


class _NotCertifiedError(Exception):
    """These bytes go the slow path."""


def scan_request(payload: bytes, version: int | None) -> ScannedFields | None:
    """What a framed CJAssessmentRequested of that version asks for, if its bytes are canonical and within the limits.

    Certified: minimal varints, lengths inside the bytes and the limits (characters are counted as bytes), known
    union branches, one block of essays, valid UTF-8, no U+0000, nothing left over.
    """
    if version not in SCANNED_VERSIONS:
        return None
    parts: list[bytes] = []
    try:
        at = _string(payload, FRAME_BYTES, EVENT_ID, parts)
        at = _long(payload, at)  # occurred_at_ms
        at = _string(payload, at, SOURCE_SERVICE, parts)
        at = _string(payload, at, CORRELATION_ID, parts)
        at = _string(payload, at, BATCH_ID, parts)
        at = _optional(payload, at, ASSIGNMENT_ID, parts)
        at = _string(payload, at, COURSE_CODE, parts)
        at = _string(payload, at, LANGUAGE, parts)
        at = _optional(payload, at, STUDENT_PROMPT_REF, parts)
        at = _optional(payload, at, USER_ID, parts)
        at = _optional(payload, at, ORG_ID, parts)
        at = _optional(payload, at, OVERRIDES, parts)
        at = _essays(payload, at, parts)
        if version == 2:
            at = _optional_long(payload, at)  # due_at_ms
        if at != len(payload):  # a string that reaches beyond the end shows here, too
            return None
        # a space between, so that no character is completed by the next string's bytes
        if "\0" in b" ".join(parts).decode():
            return None
    except (IndexError, UnicodeDecodeError, _NotCertifiedError):
        return None
    ids = _ids(parts[4], parts[5])
    return ids and ScannedFields(*ids, parts[7].decode() or None)


@lru_cache(maxsize=20_000)
def _ids(assignment_id: bytes, course_code: bytes) -> tuple[str | None, str] | None:
    """The two ids that must be able to stand in a path, or None where one cannot."""
    ids = (assignment_id.decode() or None, course_code.decode())
    fit = all(not an_id or IdLimit(len(an_id)).refusal(an_id) is None for an_id in ids)
    return ids if fit else None


def _string(payload: bytes, at: int, most: int, parts: list[bytes]) -> int:
    length = payload[at]
    at += 1
    if length >= 128:
        length += (payload[at] - 1) << 7
        if not 128 <= length < 16_384:  # not minimal, or of three bytes
            raise _NotCertifiedError
        at += 1
    if length & 1 or not 0 < length <= 2 * most:  # zigzag: odd is negative
        raise _NotCertifiedError
    end = at + (length >> 1)
    parts.append(payload[at:end])
    return end


def _optional(payload: bytes, at: int, most: int, parts: list[bytes]) -> int:
    branch = payload[at]
    if branch == 2:
        return _string(payload, at + 1, most, parts)
    if branch != 0:
        raise _NotCertifiedError
    parts.append(b"")  # no string that is there is empty
    return at + 1


def _long(payload: bytes, at: int) -> int:
    if payload[at] & 1:  # negative
        raise _NotCertifiedError
    start = at
    while payload[at] >= 128:
        at += 1
    minimal = payload[at] != 0 or at == start
    if at - start >= LONG_BYTES or not minimal:
        raise _NotCertifiedError
    return at + 1


def _optional_long(payload: bytes, at: int) -> int:
    branch = payload[at]
    if branch == 2:
        return _long(payload, at + 1)
    if branch != 0:
        raise _NotCertifiedError
    return at + 1


def _essays(payload: bytes, at: int, parts: list[bytes]) -> int:
    count = payload[at]
    at += 1
    if count >= 128:
        count += (payload[at] - 1) << 7
        if not 128 <= count < 16_384:
            raise _NotCertifiedError
        at += 1
    if count & 1 or not 4 <= count <= 2 * MAX_ESSAYS:
        raise _NotCertifiedError
    end = _alike(payload, at, count >> 1, parts)
    if end is None:
        end = at
        for most in ESSAY_PARTS * (count >> 1):
            end = _string(payload, end, most, parts)
    if payload[end] != 0:  # a second block
        raise _NotCertifiedError
    return end + 1


def _alike(payload: bytes, at: int, count: int, parts: list[bytes]) -> int | None:
    """The end of essays whose lengths are all those of the first, checked column by column; else None."""
    of_first: list[bytes] = []
    second = _string(payload, at, ESSAY_PARTS[0], of_first)
    stride = _string(payload, second, ESSAY_PARTS[1], of_first) - at
    end = at + stride * count
    essays = bytearray(payload[at:end])
    for start, text in zip((0, second - at), of_first, strict=True):
        upto = start + (1 if len(text) < 64 else 2)  # the bytes of a length
        for column in range(start, upto):
            if essays[column::stride] != payload[at + column : at + column + 1] * count:
                return None
            essays[column::stride] = b" " * count  # as between the other strings
    parts.append(bytes(essays))
    return end
