"""Records: as read from the log, and to be produced."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from confluent_kafka import KafkaError, Message

from schemas.coordinates import Coordinates
from schemas.errors import Discrepancy

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One committed record as it stands in the log."""

    at: Coordinates
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    appended_at_ms: int


def is_record(message: Message) -> bool:
    """Whether it is one, and no passing error. Raises Discrepancy where the position is not in the log."""
    error = message.error()
    if error is None:
        return True
    lost = error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
    if lost or error.fatal():
        raise Discrepancy(f"{message.topic()}/{message.partition()}: {error.str()}")
    return False  # a broker that is away comes back; the client retries by itself


def log_record_of(message: Message) -> LogRecord:
    """A message as it stands in the log."""
    return LogRecord(
        coordinates_of(message),
        message.key(),
        message.value(),
        tuple(cast(list[tuple[str, bytes | None]], message.headers() or [])),
        message.timestamp()[1],
    )


def coordinates_of(message: Message) -> Coordinates:
    """Where a message stands."""
    return Coordinates(
        str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
    )


@dataclass(frozen=True, slots=True)
class Record:
    """One record to produce, into just this partition."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def headers_of(message: Message) -> Headers:
    """A message's own headers, as they are produced again."""
    kept = message.headers() or []
    pairs = kept.items() if isinstance(kept, dict) else kept
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]
