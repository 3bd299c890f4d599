"""Records: read from the log, and to be produced."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Message

from schemas.coordinates import Coordinates

Headers = Sequence[tuple[str, bytes | None]]


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
        tuple(headers_of(message)),
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


def headers_of(message: Message) -> Headers:
    """The headers of a consumed message, in the form that a producer takes."""
    return cast(list[tuple[str, bytes | None]], message.headers() or [])
