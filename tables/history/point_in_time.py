"""A moment of the log: a time of the broker's clock, or the records that had just been appended.

What stands at a moment includes it: records appended up to and at that time, up to and with those records.
"""

from dataclasses import dataclass

from schemas.coordinates import Coordinates


@dataclass(frozen=True, slots=True)
class AtTime:
    """A time, in milliseconds since the epoch."""

    ms: int


@dataclass(frozen=True, slots=True)
class AtRecords:
    """Records; partitions that none of them names stand where the time of the newest of them finds them."""

    records: tuple[Coordinates, ...]


Moment = AtTime | AtRecords
