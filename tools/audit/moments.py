"""Moments as an auditor writes them: a time, or records by their coordinates."""

from datetime import datetime

from schemas.coordinates import coordinates_from
from schemas.errors import Malformed, Misconfigured
from tables.history.point_in_time import AtRecords, AtTime, Moment
from tools.times import moment_ms

FORMS = (
    "2026-03-01T12:00:00Z, a time ago as 90s, 30m, 2h, 7d, or records as topic/partition@offset,…"
)


def moment_from(text: str, now: datetime, option: str) -> Moment:
    """A time or coordinates, with commas between them. Raises Misconfigured: not parseable, or in the future."""
    if "@" in text:
        try:
            return AtRecords(tuple(coordinates_from(one.strip()) for one in text.split(",")))
        except Malformed as fault:
            raise Misconfigured(f"{option}: {fault}") from fault
    ms = moment_ms(text, now, option)
    if ms > round(now.timestamp() * 1000):  # as moment_ms rounds: `0s` is now
        raise Misconfigured(f"{option}: {text} is in the future")
    return AtTime(ms)
