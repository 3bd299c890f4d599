"""The plot of grade distributions on a result's page: one stacked bar per essay, lowest grade first."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Segment(NamedTuple):
    """One grade of one essay; start and width from 0 to 100, shade from 0 (lowest grade) to 1 (highest)."""

    grade: str
    probability: float
    start: float
    width: float
    shade: float


class Row(NamedTuple):
    """An essay with its grade, None if undecided, and its segments."""

    essay_id: str
    grade: str | None
    segments: list[Segment]


def grade_plot(essays: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The essays that have a distribution, in their order."""
    return [
        Row(essay["essay_id"], essay["grade"], list(_segments(essay["distribution"])))
        for essay in essays
        if essay["distribution"]
    ]


def _segments(distribution: list[Mapping[str, Any]]) -> Iterable[Segment]:
    start = 0.0
    for index, one in enumerate(distribution):
        width = round(100 * one["p"], 2)
        if width:
            shade = round(index / max(1, len(distribution) - 1), 3)
            yield Segment(one["grade"], one["p"], round(start, 2), width, shade)
        start += 100 * one["p"]
