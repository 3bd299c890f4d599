"""The headers of a dead letter, written and read back, and those of its re-drive.

Names of a dead letter's headers as in Spring for Apache Kafka; every value is UTF-8 text here. The record keeps
its raw key, value and headers. A marker is no dead letter: it stands in the same topic, has no value, and says
that the dead letter at some coordinates was re-driven or is superseded.
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
MARKER = "cjstream-redriven"  # of a marker: the dead letter's coordinates
WENT = "cjstream-redriven-to"  # of a marker: new coordinates, or `superseded`
ATTEMPT = "cjstream-redrive-attempt"  # of a re-driven record: 1, 2, 3 …
FROM = "cjstream-redriven-from"  # of a re-driven record: the dead letter's coordinates
ORIGIN = (
    "cjstream-redrive-origin"  # of a re-driven record: where its bytes stood first, and since when
)
SUPERSEDED = "superseded"
OUTCOME_REFUSED = "the broker refused its outcome: too large for the outcome topic"  # a message
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where bytes stood first, before any re-drive, and since when by the broker's clock."""

    at: Coordinates
    appended_at_ms: int

    def is_before(self, other: "Origin") -> bool:
        """Which is the older one: by offset within a partition, across partitions by append time."""
        if (self.at.topic, self.at.partition) == (other.at.topic, other.at.partition):
            return self.at.offset < other.at.offset
        return self.appended_at_ms < other.appended_at_ms


@dataclass(frozen=True, slots=True)
class DeadLetterHeaders:
    """What a dead letter tells: where its bytes stood, why they were refused, and the headers they had."""

    at: Coordinates
    appended_at_ms: int
    fault: str
    message: str
    own: Headers

    @property
    def attempt(self) -> int:
        """How often these bytes were re-driven before."""
        told = _text(self.own, ATTEMPT)
        return int(told) if told.isascii() and told.isdigit() and len(told) < 10 else 0

    @property
    def origin(self) -> Origin:
        """Where they stood before the first re-drive."""
        return origin_of(self.own, self.at, self.appended_at_ms)


def dead_letter_headers(
    at: Coordinates,
    appended_at_ms: int,
    fault: BadRecord,
    kept: Iterable[tuple[str, bytes | None]] = (),
) -> list[tuple[str, bytes | None]]:
    """The record's own headers, then its coordinates and the reason."""
    told = (
        at.topic,
        str(at.partition),
        str(at.offset),
        str(appended_at_ms),
        "LogAppendTime",
        f"{type(fault).__module__}.{type(fault).__qualname__}",
        str(fault),
    )
    named = zip(NAMES, told, strict=True)
    return [*kept, *((PREFIX + name, value.encode()) for name, value in named)]


def read_refusal(headers: Headers) -> DeadLetterHeaders:
    """What `dead_letter_headers` wrote. Raises Malformed for the headers of anything else."""
    own, told = headers[: -len(NAMES)], headers[-len(NAMES) :]
    if [name for name, _ in told] != [PREFIX + name for name in NAMES]:
        raise Malformed("its headers are not those of a dead letter")
    topic, partition, offset, appended, _, fault, message = (
        (value or b"").decode(errors="replace") for _, value in told
    )
    at = coordinates_from(f"{topic}/{partition}@{offset}")
    if not (appended.isascii() and appended.isdigit()):
        raise Malformed("its headers tell no time")
    return DeadLetterHeaders(at, int(appended), fault, message, tuple(own))


def is_marker(headers: Headers) -> bool:
    """Whether a record of a dead-letter topic is a marker. A dead letter may have a header of any name."""
    names = {name for name, _ in headers}
    return MARKER in names and not any(name.startswith(PREFIX) for name in names)


def marker_headers(of: Coordinates, went: str) -> Headers:
    """A marker: the dead letter it closes, and where the bytes went or why they did not."""
    return [(MARKER, str(of).encode()), (WENT, went.encode())]


def read_marker(headers: Headers) -> tuple[Coordinates, str]:
    """The dead letter that a marker closes, and where it went. Raises Malformed."""
    return coordinates_from(_text(headers, MARKER)), _text(headers, WENT)


def redriven_headers(letter_at: Coordinates, refusal: DeadLetterHeaders) -> Headers:
    """The headers of a re-driven record: its own, then which attempt it is and where it comes from."""
    own = [(name, value) for name, value in refusal.own if name not in (ATTEMPT, FROM, ORIGIN)]
    origin = refusal.origin
    return [
        *own,
        (ATTEMPT, str(refusal.attempt + 1).encode()),
        (FROM, str(letter_at).encode()),
        (ORIGIN, f"{origin.at} {origin.appended_at_ms}".encode()),
    ]


def origin_of(headers: Headers, at: Coordinates, appended_at_ms: int) -> Origin:
    """Where the bytes of a record stood first: what its headers tell of a re-drive, or where it stands."""
    told, _, appended = _text(headers, ORIGIN).partition(" ")
    if appended.isascii() and appended.isdigit() and COORDINATES.fullmatch(told):
        return Origin(coordinates_from(told), int(appended))
    return Origin(at, appended_at_ms)


def _text(headers: Headers, name: str) -> str:
    """The last header of a name, as text; empty where there is none."""
    found = [value for known, value in headers if known == name]
    return (found[-1] or b"").decode(errors="replace") if found else ""
