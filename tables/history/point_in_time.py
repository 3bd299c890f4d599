"""A moment of the log: a time of the broker's clock, or records of the log.

The state at a moment includes the records appended up to and at that time, or up to and including those records.
"""

from dataclasses import dataclass

from schemas.coordinates import Coordinates


@dataclass(frozen=True, slots=True)
class AtTime:
    """A time, in milliseconds since the epoch."""

    ms: int


@dataclass(frozen=True, slots=True)
class AtRecords:
    """Records; for a partition without one of them, the append time of the newest record decides."""

    records: tuple[Coordinates, ...]


Moment = AtTime | AtRecords
