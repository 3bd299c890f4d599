"""Whether answers are as the scores let expect: expected and observed wins, in groups. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

BINS = 8
COMPARISONS_MIN = 10  # in a group


def calibration_of(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Answered comparisons in groups of equal size, by the expected share of wins of the essay shown first."""
    answered = sorted(
        (one["p_first"], one["winner_id"] == one["first_id"])
        for one in comparisons
        if one["p_first"] is not None
    )
    groups = min(BINS, max(1, len(answered) // COMPARISONS_MIN))
    bins = []
    for group in range(groups):
        chosen = answered[group * len(answered) // groups : (group + 1) * len(answered) // groups]
        if chosen:
            expected = sum(p for p, _ in chosen) / len(chosen)
            bins.append(
                {
                    "comparisons": len(chosen),
                    "expected": expected,
                    "observed": sum(won for _, won in chosen) / len(chosen),
                    "se": (expected * (1 - expected) / len(chosen)) ** 0.5,
                }
            )
    return bins
