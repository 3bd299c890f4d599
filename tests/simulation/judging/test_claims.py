"""What the engine claims, against judges of known quality: 42 items, seeded runs.

Each test has a small sample in the ordinary run and a large one with --long. Where a bar is nearer to what is found
than the chance of a small sample, the small one has a lower bar.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from schemas.judging_events import WavePlanned
from tables.judging.bradley_terry import Answers, fit
from tables.judging.diagnosis import infit_of_items, misfitting_items
from tables.judging.run import Run, fold
from tables.judging.stopping_rule import Targets, WaveScores, after_wave
from tests.support.judging_in_memory import (
    SimulatedJudge,
    judge_of,
    judged,
    opened,
    records,
    squared_correlation,
)

ITEMS = 42
TARGETS = Targets()
NEVER_STOPS = '{"target_bound":2.0,"per_item_max":1000}'
UNREACHABLE_OFF = '{"per_item_max":1000}'
Record = Callable[[str, str], None]  # a figure, for --junitxml
CAP = ITEMS * TARGETS.per_item_max // 2


def samples(few: int, many: int) -> pytest.MarkDecorator:
    long = (pytest.mark.long, pytest.mark.timeout(1_800))
    return pytest.mark.parametrize(
        "runs", [pytest.param(few, marks=pytest.mark.thorough), pytest.param(many, marks=long)]
    )


@dataclass(frozen=True)
class Ended:
    """How a run ended: reason, comparisons of an item, claimed and true r², and whether `unreachable` came before."""

    reason: str
    compared: float
    claim: float
    r2: float
    highest_bound: float
    is_hit: bool = False


def ended(run: Run, judge: SimulatedJudge, is_hit: bool = False) -> Ended:
    assert run.stopped is not None
    return Ended(
        run.stopped.reason,
        run.scores.compared,
        run.scores.fit.pr,
        squared_correlation(run, judge) if judge.theta.any() else 0.0,
        run.scores.fit.bound,
        is_hit,
    )


@cache
def judged_to_the_end(seed: int, spread: float) -> Ended:
    judge = judge_of(ITEMS, seed, spread)
    return ended(judged(judge, seed=seed), judge)


@cache
def judged_on_if_unreachable(seed: int) -> Ended:
    """Spread 1.5, up to 24 comparisons an item; is_hit: the rule that is switched off here would have ended it."""
    judge = judge_of(ITEMS, seed)
    run = fold(None, opened(ITEMS, seed=seed, policy=UNREACHABLE_OFF, max_comparisons=CAP))
    previous: WaveScores | None = None
    is_hit = False
    for record, after in records(run, judge):
        if isinstance(record, WavePlanned) and run.waves:
            verdict = after_wave(run.scores, previous, TARGETS)
            is_hit |= verdict is not None and verdict.reason == "unreachable"
            previous = run.scores
        run = after
    return ended(run, judge, is_hit)


@cache
def bounds_and_truths(seed: int) -> dict[int, tuple[float, float]]:
    """Bound and true r² after 6, 10 and 14 waves."""
    judge = judge_of(ITEMS, seed)
    found = {}

    def at_wave_end(run: Run) -> bool:
        if len(run.waves) in (6, 10, 14):
            found[len(run.waves)] = (run.scores.fit.bound, squared_correlation(run, judge))
        return len(run.waves) == 14

    judged(judge, seed=seed, policy=NEVER_STOPS, at_wave_end=at_wave_end)
    return found


def after_waves(seed: int, waves: int, delta: float) -> tuple[Run, SimulatedJudge]:
    judge = judge_of(ITEMS, seed, delta=delta)
    return judged(
        judge, seed=seed, policy=NEVER_STOPS, at_wave_end=lambda run: len(run.waves) == waves
    ), judge


@samples(12, 500)
@pytest.mark.parametrize("spread", [1.5, 0.75])
def test_a_judge_with_signal_does_not_end_as_no_signal(
    record_property: Record, runs: int, spread: float
) -> None:
    reasons = Counter(judged_to_the_end(seed, spread).reason for seed in range(runs))
    record_property("reasons", str(dict(reasons)))
    assert reasons["no_signal"] <= 0.01 * runs


@samples(40, 300)
def test_what_reliable_means(record_property: Record, runs: int) -> None:
    found = [
        run for seed in range(runs) if (run := judged_on_if_unreachable(seed)).reason == "reliable"
    ]
    truths = np.array([run.r2 for run in found])
    surplus = np.mean([run.claim - run.r2 for run in found])
    effort = np.mean([run.compared for run in found])
    record_property("lowest, mean r²", str((truths.min(), truths.mean())))
    record_property("share at least .70", str(np.mean(truths >= 0.70)))
    record_property("claim - truth, comparisons an item", str((surplus, effort)))
    assert len(found) >= 0.9 * runs
    assert np.mean(truths >= 0.70) >= (0.99 if runs > 100 else 0.95)  # two of 40 are chance
    assert truths.min() >= 0.65
    assert -0.05 <= surplus <= 0.02
    assert effort <= 17


@samples(30, 300)
@pytest.mark.parametrize("wave", [6, 10, 14])
def test_the_bound_is_below_the_truth(record_property: Record, runs: int, wave: int) -> None:
    found = [bounds_and_truths(seed)[wave] for seed in range(runs)]
    share = np.mean([bound <= truth for bound, truth in found])
    record_property("share", str(share))
    assert share >= (0.95 if runs > 100 else 0.90)


@samples(30, 300)
def test_how_good_ten_comparisons_an_item_are(record_property: Record, runs: int) -> None:
    r2 = np.mean([bounds_and_truths(seed)[10][1] for seed in range(runs)])
    record_property("r²", str(r2))
    assert r2 >= 0.77


@samples(40, 300)
def test_unreachable_spares_a_run_that_gets_there(record_property: Record, runs: int) -> None:
    found = [judged_on_if_unreachable(seed) for seed in range(runs)]
    hit = sum(run.reason == "reliable" and run.is_hit for run in found)
    record_property("hit", str(hit))
    assert hit <= 0.03 * runs


@samples(25, 300)
def test_a_hopeless_run_is_ended_early(record_property: Record, runs: int) -> None:
    reasons = Counter(judged_to_the_end(seed, 0.5).reason for seed in range(runs))
    record_property("reasons", str(dict(reasons)))
    assert reasons["unreachable"] + reasons["no_signal"] >= 0.85 * runs
    assert reasons["no_signal"] <= 0.25 * runs


@samples(30, 200)
def test_an_order_effect_costs_little_and_intervals_cover(
    record_property: Record, runs: int
) -> None:
    r2, covers = {}, {}
    for delta in (-0.8, 0.0):
        found = [after_waves(seed, 10, delta) for seed in range(runs)]
        r2[delta] = np.mean([squared_correlation(run, judge) for run, judge in found])
        covers[delta] = np.mean([_covers(run, judge) for run, judge in found])
    record_property("r², coverage", str((r2, covers)))
    assert r2[0.0] - r2[-0.8] <= 0.02
    assert all(0.87 <= share <= 0.97 for share in covers.values())


def _covers(run: Run, judge: SimulatedJudge) -> float:
    """Share of items whose 95 % interval contains the true score."""
    true = judge.theta - judge.theta.mean()
    return float(np.mean(np.abs(run.scores.fit.theta - true) <= 1.96 * run.scores.fit.se))


@samples(40, 300)
def test_essays_judged_at_random_are_found_by_misfit(record_property: Record, runs: int) -> None:
    """In random pairs, 20 of each item: pairs of near equals, which the engine prefers, hide a coin."""
    noisy, found, false_alarms = [3, 17, 29], 0, 0
    for seed in range(runs):
        asked = random_pairs(seed, 20, frozenset(noisy))
        flagged = misfitting_items(infit_of_items(asked, fit(asked, seed, 20)))
        found += int(flagged[noisy].sum())
        false_alarms += int(flagged.sum() - flagged[noisy].sum())
    shares = (found / (3 * runs), false_alarms / (39 * runs))
    record_property("found, false alarms of an item", str(shares))
    assert found >= 0.70 * 3 * runs
    assert false_alarms <= 0.05 * 39 * runs


def random_pairs(seed: int, waves: int, noisy: frozenset[int]) -> Answers:
    """A round robin (circle method): each wave a perfect matching, no pair twice."""
    circle = np.random.default_rng([seed, 7]).permutation(ITEMS).tolist()
    judge = SimulatedJudge(judge_of(ITEMS, seed).theta, seed, noisy=noisy)
    pairs: list[tuple[int, int]] = []
    for _ in range(waves):
        for a, b in zip(circle[: ITEMS // 2], circle[: ITEMS // 2 - 1 : -1], strict=True):
            pairs.append((a, b) if len(pairs) % 2 else (b, a))
        circle = [circle[0], circle[-1], *circle[1:-1]]
    wins = [judge.first_wins(number, a, b) for number, (a, b) in enumerate(pairs)]
    first, second = np.array(pairs).T
    return Answers(ITEMS, first, second, np.array(wins))
