"""When a run ends, and as what. The first rule that holds decides."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tables.judging.bradley_terry import DECIMALS, Fit

RELIABLE_ITEMS_MIN = 5
RELIABLE_WAVES_MIN = 4
NO_SIGNAL_COMPARISONS = 12  # of each item
NO_SIGNAL_PROBABILITY = 0.25
NO_SIGNAL_BOUND = 0.2
UNREACHABLE_COMPARISONS = 10  # of each item
UNREACHABLE_SHARE = 0.72
CERTAIN_SPREAD = 0.01  # P(s < 0.3) below which a run cannot end as no_signal any more
LATE_COMPARISONS = 16  # of each item; from here on, a run that had no signal has shown it
LOST_SHARE_MAX = 0.2
LOST_WAVES = 2


@dataclass(frozen=True, slots=True)
class Stop:
    """outcome: complete, partial or failed."""

    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Targets:
    """target_bound: of r²; per_item_max: comparisons of one item; quorum: settled share that ends a wave.

    target_grades: mean probability of the pupils' grades that ends the run; grade_min: probability that a grade needs.
    """

    target_bound: float = 0.70
    per_item_max: int = 24
    quorum: float = 1.0
    target_grades: float | None = None
    grade_min: float = 0.0


@dataclass(frozen=True, eq=False)
class WaveScores:
    """The scores at the end of a wave; compared: mean comparisons of an item so far, audit repeats apart."""

    wave: int
    compared: float
    compute: Callable[[], Fit]

    @cached_property
    def fit(self) -> Fit:
        """Computed when first asked for: a run that is folded from its log needs the last one or two."""
        return self.compute()

    def expected_share(self, per_item_max: int) -> float:
        """Share of true variance that the scores would have with per_item_max comparisons, from 0 to 1."""
        error = self.fit.error_variance * self.compared / per_item_max
        return round(self.fit.variance / (self.fit.variance + error), DECIMALS) if error else 1.0

    def is_hopeless(self, per_item_max: int) -> bool:
        """Whether more comparisons would not make it reliable, and it is not a case of no signal."""
        has_signal = round(self.fit.p_no_spread, DECIMALS) < CERTAIN_SPREAD
        return (
            self.compared >= (UNREACHABLE_COMPARISONS if has_signal else LATE_COMPARISONS)
            and self.expected_share(per_item_max) < UNREACHABLE_SHARE
        )

    def is_reliable(self, target_bound: float) -> bool:
        """Whether the true r² is at least target_bound, as far as one wave can say."""
        return len(self.fit.theta) >= RELIABLE_ITEMS_MIN and self.fit.bound >= target_bound

    def has_no_signal(self) -> bool:
        """Whether the judge tosses coins, or the items are all alike."""
        return (
            self.compared >= NO_SIGNAL_COMPARISONS
            and round(self.fit.p_no_spread, DECIMALS) > NO_SIGNAL_PROBABILITY
            and self.fit.bound < NO_SIGNAL_BOUND
        )


def no_grades() -> None:
    """The certainty of the grades of a run that has none."""


def after_wave(
    scores: WaveScores,
    previous: WaveScores | None,
    targets: Targets,
    certainty_of: Callable[[], float | None] = no_grades,
) -> Stop | None:
    """What the scores say at the end of a wave; previous: at the end of the one before.

    A bound is looked at after each wave, and the first one that is high enough is too often a lucky one: of 725 runs of
    42 items that ended at it, 8 had a true r² below 0.70; of 716 that ended at the second one in a row, 4.

    certainty_of: the pupils' mean probability of their grades; asked only if it is a target.
    """
    if (
        scores.wave >= RELIABLE_WAVES_MIN
        and scores.is_reliable(targets.target_bound)
        and previous is not None
        and previous.is_reliable(targets.target_bound)
    ):
        return Stop("complete", "reliable")
    if targets.target_grades is not None and scores.wave >= RELIABLE_WAVES_MIN:
        certainty = certainty_of()
        if certainty is not None and certainty >= targets.target_grades:
            return Stop("complete", "grades_certain")
    if scores.has_no_signal():
        return Stop("failed", "no_signal")
    limit = targets.per_item_max
    if previous is not None and scores.is_hopeless(limit) and previous.is_hopeless(limit):
        return Stop("partial", "unreachable")
    return None


def is_provider_failing(lost_of: list[tuple[int, int]]) -> bool:
    """Whether more than 20 % of the last two waves are lost; lost_of: lost and all comparisons of each wave."""
    lost, asked = np.array(lost_of[-LOST_WAVES:]).sum(axis=0)
    return bool(lost > LOST_SHARE_MAX * asked)
