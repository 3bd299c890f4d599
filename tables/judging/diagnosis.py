"""What the answers say about the judge and about single items: flags of a result, never silent."""

from dataclasses import dataclass

import numpy as np

from tables.judging.bradley_terry import DECIMALS, Answers, Fit, Flags, Floats, Integers
from tables.judging.pair_selection import Planned

# of an item, at 20 comparisons of each of 42: finds 76 % of those judged at random, and flags 4 % of the sound ones;
# the usual 1.3 and 2 find 41 %, and 23 % without the leverage
ITEM_INFIT_MAX = 1.1
ITEM_Z_MAX = 0.9
INFIT_MAX, INFIT_Z_MAX = 1.3, 2.0  # of waves and halves, which have many comparisons
LEVERAGE_MAX = 0.9
SD_MIN = 1e-6
ORDER_EFFECT_MAX = 0.5  # logits
Z_MAX = 3.0
CONSISTENCY_MIN = 0.7
AUDITS_MIN = 5  # fewer say nothing
HALF_MIN = 20  # comparisons


@dataclass(frozen=True, eq=False)
class Infit:
    """Squared residuals against their expectation, for each group of comparisons; z is about N(0, 1)."""

    infit: Floats
    z: Floats

    def is_above(self, infit_max: float, z_max: float) -> Flags:
        return np.asarray(
            (np.round(self.infit, DECIMALS) > infit_max) & (np.round(self.z, DECIMALS) > z_max)
        )


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """items, waves: infit of each; is_misfit (n,): items that seem judged at random.

    consistency: share of audit repeats with the same winner; None: no repeats.
    triads: circular ones among the pairs (a beats b beats c beats a), and how many the scores let expect.
    """

    items: Infit
    is_misfit: Flags
    waves: Infit
    first_share: float
    consistency: float | None
    triads: int
    triads_expected: float
    flags: tuple[str, ...]


def infit(answers: Answers, fit: Fit, group: Integers, groups: int) -> Infit:
    """sum (y - p)² / sum e, and (infit - 1) sum e / sqrt(sum (q - 4 q²)): Wright and Masters 1982.

    q = p (1 - p); e = q (1 - h): as p was fitted to y, a residual is smaller than q lets expect, by the leverage h.
    group (m,): the group of each comparison; groups without comparisons have infit 1 and z 0.
    """
    return _infit(*(_sums(group, values, groups) for values in _residuals(answers, fit)))


def infit_of_items(answers: Answers, fit: Fit) -> Infit:
    """Of each item, over its comparisons."""
    n = answers.items
    return _infit(
        *(
            _sums(answers.first, values, n) + _sums(answers.second, values, n)
            for values in _residuals(answers, fit)
        )
    )


def misfitting_items(of_items: Infit) -> Flags:
    """Items (n,) that seem judged at random; hard to see, because the engine prefers pairs of near equals."""
    return of_items.is_above(ITEM_INFIT_MAX, ITEM_Z_MAX)


def diagnose(
    answers: Answers, fit: Fit, planned: Planned, wave: Integers, models: int
) -> Diagnosis:
    """wave (m,): of each answered comparison, from 0; models: how many different ones answered."""
    halves = np.where(np.arange(answers.count) < answers.count // 2, 0, 1)
    of_halves = infit(answers, fit, halves, 2)
    of_waves = infit(answers, fit, wave, int(wave.max(initial=0)) + 1)
    of_items = infit_of_items(answers, fit)
    audits, consistency = _consistency(answers, planned)
    triads, expected = _circular_triads(answers, fit)
    flags = {
        "order_effect": abs(fit.delta) > ORDER_EFFECT_MAX and abs(fit.delta) > 2 * fit.delta_se,
        "inconsistent": audits >= AUDITS_MIN and consistency < CONSISTENCY_MIN,
        "circular": triads - expected > Z_MAX * np.sqrt(max(expected, 1.0)),
        "drift": bool(of_halves.is_above(INFIT_MAX, INFIT_Z_MAX).any())
        or _shares_differ(answers, halves),
        "misfitting_wave": bool(of_waves.is_above(INFIT_MAX, INFIT_Z_MAX).any()),
        "several_models": models > 1,
    }
    return Diagnosis(
        items=of_items,
        is_misfit=misfitting_items(of_items),
        waves=of_waves,
        first_share=float(answers.first_won.mean()) if answers.count else 0.5,
        consistency=consistency if audits else None,
        triads=triads,
        triads_expected=expected,
        flags=tuple(flag for flag, holds in flags.items() if holds),
    )


def _residuals(answers: Answers, fit: Fit) -> tuple[Floats, Floats, Floats]:
    """(y - p)², its expectation and q - 4 q², of each comparison."""
    first, second, cov = answers.first, answers.second, fit.cov
    p = fit.p_first(first, second)
    q = p * (1.0 - p)
    of_difference = cov[first, first] + cov[second, second] - 2.0 * cov[first, second]
    leverage = np.minimum(answers.weights * q * of_difference, LEVERAGE_MAX)
    return (answers.first_won - p) ** 2, q * (1.0 - leverage), q - 4.0 * q**2


def _sums(group: Integers, values: Floats, groups: int) -> Floats:
    return np.bincount(group, values, groups).astype(np.float64)


def _infit(squared: Floats, expected: Floats, variance: Floats) -> Infit:
    found, z = np.ones_like(expected), np.zeros_like(expected)
    np.divide(squared, expected, out=found, where=expected > 0)
    sd = np.sqrt(np.maximum(variance, 0.0))
    np.divide((found - 1.0) * expected, sd, out=z, where=sd > SD_MIN)
    return Infit(found, z)


def _consistency(answers: Answers, planned: Planned) -> tuple[int, float]:
    """Answered audit repeats, and the share of them with the winner of the first time."""
    is_audit = planned.is_audit[planned.is_answered]
    low_won = (answers.first < answers.second) == answers.first_won
    codes, pair = answers.pairs
    first_time = np.zeros(len(codes), np.bool_)
    first_time[pair[~is_audit]] = low_won[~is_audit]
    same = first_time[pair[is_audit]] == low_won[is_audit]
    return len(same), float(same.mean()) if len(same) else 0.0


def _circular_triads(answers: Answers, fit: Fit) -> tuple[int, float]:
    """Observed and expected number, each pair taken once (Kendall and Babington Smith 1940, on the pairs asked)."""
    n = answers.items
    _, once = np.unique(answers.pairs[1], return_index=True)
    first, second = answers.first[once], answers.second[once]
    beats, p_beats = np.zeros((n, n)), np.zeros((n, n))
    won, p = answers.first_won[once], fit.p_first(first, second)
    beats[first, second], beats[second, first] = won, ~won
    p_beats[first, second], p_beats[second, first] = p, 1.0 - p
    return round(_closed_triples(beats) / 3), _closed_triples(p_beats) / 3


def _closed_triples(matrix: Floats) -> float:
    return float(np.sum((matrix @ matrix) * matrix.T))


def _shares_differ(answers: Answers, halves: Integers) -> bool:
    """Whether the item shown first won much more often in one half of the run."""
    counts = np.bincount(halves, minlength=2)
    if counts.min() < HALF_MIN:
        return False
    shares = np.bincount(halves, answers.first_won, 2) / counts
    return bool(abs(shares[0] - shares[1]) > Z_MAX * np.sqrt((0.25 / counts).sum()))
