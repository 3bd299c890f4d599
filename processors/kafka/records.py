"""Records: read from the log, and to be produced."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from confluent_kafka import KafkaError, Message

from schemas.coordinates import Coordinates
from schemas.errors import Discrepancy

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One committed record of the log."""

    at: Coordinates
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    appended_at_ms: int


def is_record(message: Message) -> bool:
    """Whether the message is a record; False for a temporary error.

    Raises Discrepancy if the reader's position is not in the log.
    """
    error = message.error()
    if error is None:
        return True
    lost = error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
    if lost or error.fatal():
        raise Discrepancy(f"{message.topic()}/{message.partition()}: {error.str()}")
    return False  # a broker is unreachable: the client retries by itself


def log_record_of(message: Message) -> LogRecord:
    """The record of a message."""
    return LogRecord(
        coordinates_of(message),
        message.key(),
        message.value(),
        tuple(cast(list[tuple[str, bytes | None]], message.headers() or [])),
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
    """The headers of a message, in the form that a producer takes."""
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]
