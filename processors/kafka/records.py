"""Records: read from the log, and to be produced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import methodcaller

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from schemas.coordinates import Coordinates

MAX_TIME_MS = 253_402_300_799_999  # the end of the year 9999
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
        append_time_of(message),
    )


def append_time_of(message: Message) -> int:
    """The append time of a message in ms since the epoch, or the producer's time if its topic had `CreateTime`."""
    return valid_time_ms(message.timestamp()[1])


def append_times_of(messages: Sequence[Message]) -> list[int]:
    """The append time of each message, as `append_time_of` gives it."""
    times_ms = [message.timestamp()[1] for message in messages]
    if times_ms and min(times_ms) >= -1 and max(times_ms) <= MAX_TIME_MS:
        return times_ms
    return list(map(valid_time_ms, times_ms))


def broker_time_of(message: Message) -> int:
    """The append time of a message; 0 if its producer set the time, which may be in the future."""
    kind, ms = message.timestamp()
    return ms if kind == TIMESTAMP_LOG_APPEND_TIME else 0


def valid_time_ms(ms: int) -> int:
    """A time that Avro and `datetime` can hold: producers may set any 64 bits; -1 if there is none."""
    return ms if -1 <= ms <= MAX_TIME_MS else min(max(ms, -1), MAX_TIME_MS)


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


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Records to produce as columns of equal length: an object per record would take longer than its outcome."""

    topics: Sequence[str] = ()
    values: Sequence[bytes | None] = ()
    keys: Sequence[bytes | None] = ()
    partitions: Sequence[int] = ()
    headers: Headers = ()  # of each record

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, are_wanted: Sequence[bool]) -> "RecordColumns":
        """The rows that are wanted."""
        return RecordColumns(
            list(compress(self.topics, are_wanted)),
            list(compress(self.values, are_wanted)),
            list(compress(self.keys, are_wanted)),
            list(compress(self.partitions, are_wanted)),
            self.headers,
        )

    def record(self, number: int) -> Record:
        """The record in one row."""
        return Record(
            self.topics[number],
            self.partitions[number],
            self.keys[number],
            self.values[number],
            self.headers,
        )


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
