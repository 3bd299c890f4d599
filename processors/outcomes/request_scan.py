"""Checks a request in its canonical encoding in place, and reads a few fields without decoding it. Pure.

The slow path accepts every request that the scan accepts, and encodes it to the same bytes. A request that the scan
does not accept takes the slow path, which decides. A property test checks both statements.
"""

from functools import lru_cache
from typing import NamedTuple

from schemas.field_limits import MAX_ESSAYS, RULES, IdLimit, TextLimit

FRAME_BYTES = 5
SCANNED_VERSIONS = (1, 2)  # the versions of CJAssessmentRequested that can be checked in place
MAX_LONG_BYTES = 9  # of a non-negative long; one of ten bytes takes the slow path
# of the longest string whose length takes two bytes; longer strings take the slow path
TWO_BYTE_LENGTH = 8191


class ScannedFields(NamedTuple):
    """The fields of a request that resolution needs."""

    assignment_id: str | None
    course_code: str
    student_prompt_ref: str | None


def _max_bytes(name: str) -> int:
    rule = RULES[name]
    if not isinstance(rule, TextLimit | IdLimit):
        raise TypeError(f"{name} is not a text field")
    return min(rule.maximum, TWO_BYTE_LENGTH)


EVENT_ID, SOURCE_SERVICE, CORRELATION_ID = map(
    _max_bytes, ("event_id", "source_service", "correlation_id")
)
BATCH_ID, ASSIGNMENT_ID, COURSE_CODE = map(_max_bytes, ("batch_id", "assignment_id", "course_code"))
LANGUAGE, STUDENT_PROMPT_REF, USER_ID = map(
    _max_bytes, ("language", "student_prompt_ref", "user_id")
)
ORG_ID, OVERRIDES = map(_max_bytes, ("org_id", "llm_config_overrides"))
ESSAY_PARTS = (_max_bytes("essay_id"), _max_bytes("text_storage_id"))


class _NotAcceptedError(Exception):
    """These bytes must take the slow path."""


def scan_request(payload: bytes, version: int | None) -> ScannedFields | None:
    """The fields of a framed CJAssessmentRequested of this version, or None if it must take the slow path.

    Accepted are: minimal varints, lengths within the bytes and the limits (bytes are counted, not characters), known
    union branches, one block of essays, valid UTF-8, no U+0000, no bytes left over.
    """
    if version not in SCANNED_VERSIONS:
        return None
    parts: list[bytes] = []
    try:
        position = _string(payload, FRAME_BYTES, EVENT_ID, parts)
        position = _long(payload, position)  # occurred_at_ms
        position = _string(payload, position, SOURCE_SERVICE, parts)
        position = _string(payload, position, CORRELATION_ID, parts)
        position = _string(payload, position, BATCH_ID, parts)
        position = _optional(payload, position, ASSIGNMENT_ID, parts)
        position = _string(payload, position, COURSE_CODE, parts)
        position = _string(payload, position, LANGUAGE, parts)
        position = _optional(payload, position, STUDENT_PROMPT_REF, parts)
        position = _optional(payload, position, USER_ID, parts)
        position = _optional(payload, position, ORG_ID, parts)
        position = _optional(payload, position, OVERRIDES, parts)
        position = _essays(payload, position, parts)
        if version == 2:
            position = _optional_long(payload, position)  # due_at_ms
        if position != len(payload):  # also true if a string reaches beyond the end
            return None
        # the space keeps the bytes of two strings from forming one character
        if "\0" in b" ".join(parts).decode():
            return None
    except (IndexError, UnicodeDecodeError, _NotAcceptedError):
        return None
    ids = _ids(parts[4], parts[5])
    return ids and ScannedFields(*ids, parts[7].decode() or None)


@lru_cache(maxsize=20_000)
def _ids(assignment_id: bytes, course_code: bytes) -> tuple[str | None, str] | None:
    """The two ids, which must be usable in a URL path, or None if one is not."""
    ids = (assignment_id.decode() or None, course_code.decode())
    are_valid = all(not value or IdLimit(len(value)).problem_with(value) is None for value in ids)
    return ids if are_valid else None


def _string(payload: bytes, position: int, max_bytes: int, parts: list[bytes]) -> int:
    length = payload[position]
    position += 1
    if length >= 128:
        length += (payload[position] - 1) << 7
        if not 128 <= length < 16_384:  # not minimal, or three bytes long
            raise _NotAcceptedError
        position += 1
    if length & 1 or not 0 < length <= 2 * max_bytes:  # zigzag: odd is negative
        raise _NotAcceptedError
    end = position + (length >> 1)
    parts.append(payload[position:end])
    return end


def _optional(payload: bytes, position: int, max_bytes: int, parts: list[bytes]) -> int:
    branch = payload[position]
    if branch == 2:
        return _string(payload, position + 1, max_bytes, parts)
    if branch != 0:
        raise _NotAcceptedError
    parts.append(b"")  # None, because a present string is never empty
    return position + 1


def _long(payload: bytes, position: int) -> int:
    if payload[position] & 1:  # negative
        raise _NotAcceptedError
    start = position
    while payload[position] >= 128:
        position += 1
    minimal = payload[position] != 0 or position == start
    if position - start >= MAX_LONG_BYTES or not minimal:
        raise _NotAcceptedError
    return position + 1


def _optional_long(payload: bytes, position: int) -> int:
    branch = payload[position]
    if branch == 2:
        return _long(payload, position + 1)
    if branch != 0:
        raise _NotAcceptedError
    return position + 1


def _essays(payload: bytes, position: int, parts: list[bytes]) -> int:
    count = payload[position]
    position += 1
    if count >= 128:
        count += (payload[position] - 1) << 7
        if not 128 <= count < 16_384:
            raise _NotAcceptedError
        position += 1
    if count & 1 or not 4 <= count <= 2 * MAX_ESSAYS:
        raise _NotAcceptedError
    end = _equal_length_essays(payload, position, count >> 1, parts)
    if end is None:
        end = position
        for max_bytes in ESSAY_PARTS * (count >> 1):
            end = _string(payload, end, max_bytes, parts)
    if payload[end] != 0:  # a second block
        raise _NotAcceptedError
    return end + 1


def _equal_length_essays(
    payload: bytes, position: int, count: int, parts: list[bytes]
) -> int | None:
    """The end of essays that all have the lengths of the first, checked column by column; None if they differ."""
    of_first: list[bytes] = []
    second = _string(payload, position, ESSAY_PARTS[0], of_first)
    stride = _string(payload, second, ESSAY_PARTS[1], of_first) - position
    end = position + stride * count
    essays = bytearray(payload[position:end])
    for start, text in zip((0, second - position), of_first, strict=True):
        length_end = start + (1 if len(text) < 64 else 2)
        for column in range(start, length_end):
            if essays[column::stride] != payload[position + column : position + column + 1] * count:
                return None
            essays[column::stride] = b" " * count  # the same separator as between the other strings
    parts.append(bytes(essays))
    return end
