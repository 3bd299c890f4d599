"""Times and durations as people write and read them."""

import re
from datetime import UTC, datetime, timedelta

from schemas.coordinates import coordinates_from
from schemas.errors import Malformed, Misconfigured
from tables.history.point_in_time import AtRecords, AtTime, Moment

FORMS = "2026-03-01T12:00:00Z, a time ago such as 90s, 30m, 2h, 7d, or records as topic/partition@offset,…"

# RFC 3339 has four digits for the year, and a record may carry any 64 bits as a time
FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
DURATION = re.compile(r"([0-9]{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration_of(text: str) -> timedelta | None:
    """A duration such as `90s`, `30m`, `2h`, `7d`; None if it is none."""
    found = DURATION.fullmatch(text)
    return found and timedelta(**{UNITS[found[2]]: int(found[1])})


def time_ms(text: str, now: datetime, option: str) -> int:
    """An RFC 3339 time, or a time ago as `90s`, `30m`, `2h`, `7d`. Raises Misconfigured."""
    try:
        ago = duration_of(text)
        moment = datetime.fromisoformat(text) if ago is None else now - ago
    except (ValueError, OverflowError) as fault:
        raise Misconfigured(f"{option}: not a time such as 2026-03-01T12:00:00Z or 2h") from fault
    if moment.tzinfo is None:
        raise Misconfigured(f"{option}: a time needs a UTC offset, such as Z")
    return round(moment.timestamp() * 1000)


def duration_s(text: str, option: str) -> float:
    """The seconds of a duration such as `90s`, `30m`, `2h`, `7d`. Raises Misconfigured."""
    duration = duration_of(text)
    if duration is None:
        raise Misconfigured(f"{option}: not a duration such as 90s, 30m, 2h or 7d")
    return duration.total_seconds()


def span_of(seconds: float) -> str:
    """A duration for people: `45 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    rounded = int(abs(seconds))
    for size, name, rest_size, rest_name in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if rounded >= size:
            return f"{rounded // size} {name} {rounded % size // rest_size} {rest_name}"
    return f"{rounded} s"


def time_of(ms: int) -> str:
    """A time for people: RFC 3339, UTC, with seconds; the nearest one that this form has."""
    nearest_ms = min(max(ms, FIRST_MS), LAST_MS)
    return f"{datetime.fromtimestamp(nearest_ms // 1000, UTC).replace(tzinfo=None).isoformat()}Z"


def point_in_time_from(text: str, now: datetime, option: str) -> Moment:
    """A time, or coordinates separated by commas. Raises Misconfigured if it cannot be parsed or is in the future."""
    if "@" in text:
        try:
            return AtRecords(tuple(coordinates_from(part.strip()) for part in text.split(",")))
        except Malformed as fault:
            raise Misconfigured(f"{option}: {fault}") from fault
    ms = time_ms(text, now, option)
    if ms > round(now.timestamp() * 1000):  # rounded as in time_ms, so that `0s` is now
        raise Misconfigured(f"{option}: {text} is in the future")
    return AtTime(ms)
