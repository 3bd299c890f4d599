"""Writes and reads the headers of dead letters, of re-driven records and of markers.

The names of a dead letter's headers are those of Spring for Apache Kafka; here every value is UTF-8 text. A dead letter
keeps the raw key, value and headers of its record, or, if together they do not fit in a record, their sizes and
sha256: it is truncated. A marker is not a dead letter: it is a record without a value in
the same topic, and says that the dead letter at some coordinates was re-driven or is superseded.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.coordinates import COORDINATES, Coordinates, coordinates_from
from schemas.errors import BadRecord, Malformed

PREFIX = "kafka_dlt-"
NAMES = (
    "original-topic",
    "original-partition",
    "original-offset",
    "original-timestamp",
    "original-timestamp-type",
    "exception-fqcn",
    "exception-message",
)
# after these in a truncated dead letter: size in bytes and sha256 of the record's key, value and headers
TRUNCATED = ("cjstream-truncated-key", "cjstream-truncated-value", "cjstream-truncated-headers")
MAX_KEPT_BYTES = 2 * 1024 * 1024 - 64 * 1024  # a topic's `max.message.bytes`, less what is added
HEADER_OVERHEAD_BYTES = 10  # of one header in a record: the lengths of its name and value
MAX_KEPT_KEY_BYTES = 1024  # of a truncated dead letter, so that it goes to the key's neighbours
MARKER = "cjstream-redriven"  # in a marker: the coordinates of the dead letter
REDRIVEN_TO = "cjstream-redriven-to"  # in a marker: the new coordinates, or `superseded`
ATTEMPT = "cjstream-redrive-attempt"  # in a re-driven record: 1, 2, 3 …
REDRIVEN_FROM = "cjstream-redriven-from"  # in a re-driven record: the dead letter's coordinates
# in a re-driven record: the first coordinates of its bytes, and their append time in ms
ORIGIN = "cjstream-redrive-origin"
SUPERSEDED = "superseded"
OUTCOME_REFUSED = (
    "the broker refused its outcome: too large for the outcome topic"  # in the log: never reword
)
APPEND_TIME = re.compile(r"-?\d{1,19}", re.ASCII)  # -1 if the record has none
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Origin:
    """The first coordinates and append time of a record's bytes, before any re-drive."""

    at: Coordinates
    appended_at_ms: int

    def is_before(self, other: "Origin") -> bool:
        """Whether this one is older: by offset within a partition, by append time across partitions."""
        if (self.at.topic, self.at.partition) == (other.at.topic, other.at.partition):
            return self.at.offset < other.at.offset
        return self.appended_at_ms < other.appended_at_ms


@dataclass(frozen=True, slots=True)
class DeadLetterHeaders:
    """The content of a dead letter's headers: the refused record's coordinates, headers and the reason."""

    at: Coordinates
    appended_at_ms: int
    fault: str
    message: str
    original_headers: Headers
    truncated: tuple[str, str, str] | None = None  # `checksums` of the record, if it did not fit

    @property
    def attempt(self) -> int:
        """How often these bytes were re-driven before; 0 if the header is missing or not a number."""
        text = _text(self.original_headers, ATTEMPT)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0

    @property
    def origin(self) -> Origin:
        """The coordinates and append time of these bytes before the first re-drive."""
        return origin_of(self.original_headers, self.at, self.appended_at_ms)


class Refused(NamedTuple):
    """Key, value and headers of a refused record, or of its dead letter."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter(
    at: Coordinates, appended_at_ms: int, fault: BadRecord, refused: Refused
) -> Refused:
    """The dead letter of a refused record. It always fits: a record that is too large is truncated."""
    key, value, headers = refused
    size = sum(len(part or b"") for part in (key, value)) + _headers_size(headers)
    if size <= MAX_KEPT_BYTES:
        return Refused(key, value, dead_letter_headers(at, appended_at_ms, fault, headers))
    sums = zip(TRUNCATED, checksums(refused), strict=True)
    return Refused(
        key if len(key or b"") <= MAX_KEPT_KEY_BYTES else None,
        None,
        [
            *dead_letter_headers(at, appended_at_ms, fault),
            *((name, checksum.encode()) for name, checksum in sums),
        ],
    )


def checksums(refused: Refused) -> tuple[str, str, str]:
    """Size and sha256 of a record's key, value and headers; `-` for one that is None.

    The headers are hashed as Kafka stores them, with lengths of 4 bytes (big endian; -1 for None) in place of varints.
    """
    packed = bytearray()
    for name, value in refused.headers:
        for part in (name.encode(), value):
            packed += (-1 if part is None else len(part)).to_bytes(4, "big", signed=True)
            packed += part or b""
    return _checksum(refused.key), _checksum(refused.value), _checksum(bytes(packed))


def _checksum(part: bytes | None) -> str:
    return "-" if part is None else f"{len(part)} {hashlib.sha256(part).hexdigest()}"


def _headers_size(headers: Headers) -> int:
    return sum(
        len(name.encode()) + len(value or b"") + HEADER_OVERHEAD_BYTES for name, value in headers
    )


def dead_letter_headers(
    at: Coordinates,
    appended_at_ms: int,
    fault: BadRecord,
    original_headers: Iterable[tuple[str, bytes | None]] = (),
) -> list[tuple[str, bytes | None]]:
    """The headers of a dead letter: the record's original headers, then its coordinates and the reason."""
    values = (
        at.topic,
        str(at.partition),
        str(at.offset),
        str(appended_at_ms),
        "LogAppendTime",
        f"{type(fault).__module__}.{type(fault).__qualname__}",
        str(fault),
    )
    named = zip(NAMES, values, strict=True)
    return [*original_headers, *((PREFIX + name, value.encode()) for name, value in named)]


def read_dead_letter_headers(headers: Headers) -> DeadLetterHeaders:
    """The content of headers that `dead_letter` wrote. Raises Malformed for any other headers."""
    truncated = None
    if tuple(name for name, _ in headers[-len(TRUNCATED) :]) == TRUNCATED:
        sums = [(value or b"").decode(errors="replace") for _, value in headers[-len(TRUNCATED) :]]
        truncated = (sums[0], sums[1], sums[2])
        headers = headers[: -len(TRUNCATED)]
    original_headers, added = headers[: -len(NAMES)], headers[-len(NAMES) :]
    if [name for name, _ in added] != [PREFIX + name for name in NAMES]:
        raise Malformed("these are not the headers of a dead letter")
    topic, partition, offset, appended, _, fault, message = (
        (value or b"").decode(errors="replace") for _, value in added
    )
    at = coordinates_from(f"{topic}/{partition}@{offset}")
    if not APPEND_TIME.fullmatch(appended):
        raise Malformed("its headers have no valid append time")
    return DeadLetterHeaders(at, int(appended), fault, message, tuple(original_headers), truncated)


def is_marker(headers: Headers) -> bool:
    """Whether a record of a dead-letter topic is a marker; a dead letter may also have the marker header."""
    names = {name for name, _ in headers}
    return MARKER in names and not any(name.startswith(PREFIX) for name in names)


def marker_headers(letter_at: Coordinates, redriven_to: str) -> Headers:
    """The headers of a marker; redriven_to is the new record's coordinates, or `superseded`."""
    return [(MARKER, str(letter_at).encode()), (REDRIVEN_TO, redriven_to.encode())]


def read_marker(headers: Headers) -> tuple[Coordinates, str]:
    """The coordinates of the dead letter that a marker closes, and where it was re-driven to. Raises Malformed."""
    return coordinates_from(_text(headers, MARKER)), _text(headers, REDRIVEN_TO)


def redriven_headers(letter_at: Coordinates, refusal: DeadLetterHeaders) -> Headers:
    """The headers of a re-driven record: its original ones, then the attempt, the dead letter and the origin."""
    original_headers = [
        (name, value)
        for name, value in refusal.original_headers
        if name not in (ATTEMPT, REDRIVEN_FROM, ORIGIN)
    ]
    origin = refusal.origin
    return [
        *original_headers,
        (ATTEMPT, str(refusal.attempt + 1).encode()),
        (REDRIVEN_FROM, str(letter_at).encode()),
        (ORIGIN, f"{origin.at} {origin.appended_at_ms}".encode()),
    ]


def origin_of(headers: Headers, at: Coordinates, appended_at_ms: int) -> Origin:
    """The origin of a record's bytes: from its re-drive headers if they are valid, otherwise the record itself."""
    text, _, appended = _text(headers, ORIGIN).partition(" ")
    if APPEND_TIME.fullmatch(appended) and COORDINATES.fullmatch(text) and text.isascii():
        return Origin(coordinates_from(text), int(appended))
    return Origin(at, appended_at_ms)


def _text(headers: Headers, name: str) -> str:
    """The value of the last header with this name, as text; empty if there is none."""
    found = [value for known, value in headers if known == name]
    return (found[-1] or b"").decode(errors="replace") if found else ""
