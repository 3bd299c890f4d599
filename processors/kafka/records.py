"""Records: read from the log, and to be produced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import methodcaller

from confluent_kafka import Message

from schemas.coordinates import Coordinates

Headers = Sequence[tuple[str, bytes | None]]
read_headers: Callable[[Message], list[tuple[str, bytes | None]] | None] = methodcaller("headers")
# stands for all headers of a record, wherever they are copied or compared
UNREADABLE_HEADERS = ("cjstream-unreadable-headers", b"the name of a header is not UTF-8")


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One committed record of the log."""

    at: Coordinates
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    appended_at_ms: int


def log_record_of(message: Message) -> LogRecord:
    """The record of a message."""
    return LogRecord(
        coordinates_of(message),
        message.key(),
        message.value(),
        headers_of(message),
        message.timestamp()[1],
    )


def coordinates_of(message: Message) -> Coordinates:
    """The coordinates of a message."""
    return Coordinates(
        str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
    )


@dataclass(frozen=True, slots=True)
class Record:
    """One record to produce, into exactly this partition."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def headers_of(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    """The headers of a message; one header in place of all of them if a name is not UTF-8.

    The client then returns a list with null pointers and sets an exception. So nothing else may read the headers, and
    not by a plain call either: the interpreter's quick path for it misses that exception.
    """
    try:
        return tuple(read_headers(message) or ())
    except (SystemError, UnicodeDecodeError):
        message.set_headers([UNREADABLE_HEADERS])  # otherwise the next call returns that list
        return (UNREADABLE_HEADERS,)
