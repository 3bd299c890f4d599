"""Writes and reads the headers of dead letters, of re-driven records and of markers.

The names of a dead letter's headers are those of Spring for Apache Kafka; here every value is UTF-8 text. A dead letter
keeps the raw key, value and headers of its record. A marker is not a dead letter: it is a record without a value in
the same topic, and says that the dead letter at some coordinates was re-driven or is superseded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

    @property
    def attempt(self) -> int:
        """How often these bytes were re-driven before; 0 if the header is missing or not a number."""
        text = _text(self.original_headers, ATTEMPT)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0

    @property
    def origin(self) -> Origin:
        """The coordinates and append time of these bytes before the first re-drive."""
        return origin_of(self.original_headers, self.at, self.appended_at_ms)


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
    """The content of headers that `dead_letter_headers` wrote. Raises Malformed for any other headers."""
    original_headers, added = headers[: -len(NAMES)], headers[-len(NAMES) :]
    if [name for name, _ in added] != [PREFIX + name for name in NAMES]:
        raise Malformed("these are not the headers of a dead letter")
    topic, partition, offset, appended, _, fault, message = (
        (value or b"").decode(errors="replace") for _, value in added
    )
    at = coordinates_from(f"{topic}/{partition}@{offset}")
    if not (appended.isascii() and appended.isdigit()):
        raise Malformed("its headers have no valid append time")
    return DeadLetterHeaders(at, int(appended), fault, message, tuple(original_headers))


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
    if appended.isascii() and appended.isdigit() and COORDINATES.fullmatch(text):
        return Origin(coordinates_from(text), int(appended))
    return Origin(at, appended_at_ms)


def _text(headers: Headers, name: str) -> str:
    """The value of the last header with this name, as text; empty if there is none."""
    found = [value for known, value in headers if known == name]
    return (found[-1] or b"").decode(errors="replace") if found else ""
