"""What both engines do: they scan records of known schemas, and return the places of captured fields."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tables.scan.layout import Layout

SLOW_PATH = -1  # in place of a layout: the record is not canonical, or its frame is not known
FrameLayouts = Sequence[tuple[bytes, Layout]]  # the first five bytes of a record, and its layout


class Scanned(NamedTuple):
    """The results of a scan, one per record.

    layouts: the index of the record's layout, or SLOW_PATH. places: start and end of each captured field in its record,
    one after the other; -1 for null. Those of a record on the slow path have no meaning.
    """

    layouts: Sequence[int]
    places: Sequence[Sequence[int]]


class Scanner(Protocol):
    """Scans records of some layouts, which all capture the same fields."""

    def scan(self, records: Sequence[bytes]) -> Scanned:
        """Scan records; an empty one takes the slow path."""


class Engine(Protocol):
    """Makes scanners."""

    @property
    def name(self) -> str: ...

    def scanner(self, layouts: FrameLayouts) -> Scanner:
        """A scanner of these layouts."""
