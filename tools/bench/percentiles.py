"""Percentiles of measured values. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Figures = dict[str, Any]  # numbers, spreads and figures by name


@dataclass(frozen=True, slots=True)
class Spread:
    """The count and the percentiles of values; all but the count are None if there are no values."""

    count: int
    p50: float | None = None
    p99: float | None = None
    max: float | None = None


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value such that `percent` % of the values are not greater: nearest rank, without interpolation.

    `ordered` is ascending and not empty, percent is 1 to 100.
    """
    rank = -(-len(ordered) * percent // 100)
    return ordered[rank - 1]


def spread_of(values: Iterable[float]) -> Spread:
    """Median, 99th percentile and maximum, rounded to a tenth of the values' unit."""
    ordered = sorted(values)
    if not ordered:
        return Spread(0)
    percentiles = (percentile(ordered, percent) for percent in (50, 99, 100))
    return Spread(len(ordered), *(round(value, 1) for value in percentiles))
