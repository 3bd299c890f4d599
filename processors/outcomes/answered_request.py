"""Finds the request that a record of an outcome topic answers, without decoding it. Pure."""

from schemas.codec import FRAME
from schemas.dead_letters import Headers, is_marker, read_dead_letter_headers
from schemas.errors import BadRecord

DIGITS = 20  # a number with so many digits or more is no offset


def offset_in(value: bytes, prefix: bytes) -> int | None:
    """The offset in the event id of an outcome, its first field: the request's coordinates as text.

    None if the text does not start with the prefix, `topic/partition@`.
    """
    start = FRAME.size + 1
    if len(value) <= start:
        return None
    size = value[start - 1]
    if size > 127:  # a varint of two bytes: the text has 64 bytes or more
        size += (value[start] - 1) << 7
        start += 1
    text = value[start : start + (size >> 1)]
    digits = text[len(prefix) :]
    is_offset = text.startswith(prefix) and digits.isdigit() and len(digits) < DIGITS
    return int(digits) if is_offset else None


def dead_lettered_offset(headers: Headers, requests: str, partition: int) -> int | None:
    """The offset of the request of this partition that a dead letter is about; None for any other record."""
    if is_marker(headers):
        return None
    try:
        at = read_dead_letter_headers(headers).at
    except BadRecord:
        return None
    return at.offset if (at.topic, at.partition) == (requests, partition) else None
