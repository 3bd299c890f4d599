"""The headers of a dead letter: where the bytes stood and why they were refused.

Names as in Spring for Apache Kafka; every value is UTF-8 text here. The record keeps its raw key, value
and headers.
"""

from collections.abc import Iterable

from schemas.errors import BadRecord
from schemas.events import Coordinates

PREFIX = "kafka_dlt-"


def dead_letter_headers(
    at: Coordinates,
    appended_at_ms: int,
    fault: BadRecord,
    kept: Iterable[tuple[str, bytes | None]] = (),
) -> list[tuple[str, bytes | None]]:
    """The record's own headers, then its coordinates and the reason."""
    told = {
        "original-topic": at.topic,
        "original-partition": str(at.partition),
        "original-offset": str(at.offset),
        "original-timestamp": str(appended_at_ms),
        "original-timestamp-type": "LogAppendTime",
        "exception-fqcn": f"{type(fault).__module__}.{type(fault).__qualname__}",
        "exception-message": str(fault),
    }
    return [*kept, *((PREFIX + name, value.encode()) for name, value in told.items())]
