"""Flags: each from answers that deserve it, none from sound ones."""

from itertools import combinations

import numpy as np
import pytest
from scipy.special import expit

from tables.judging.bradley_terry import Answers, Fit, fit
from tables.judging.diagnosis import Diagnosis, diagnose, infit_of_items
from tables.judging.pair_selection import Planned

N = 20
Pairs = list[tuple[int, int, bool]]


def judged(pairs: Pairs, audits: Pairs, models: int = 1) -> tuple[Answers, Fit, Diagnosis]:
    both = [*pairs, *audits]
    first, second, won = (np.array(column) for column in zip(*both, strict=True))
    asked = Answers(N, first, second, won.astype(np.bool_))
    is_audit = np.arange(len(both)) >= len(pairs)
    planned = Planned(N, first, second, is_audit, np.ones_like(is_audit), np.zeros_like(is_audit))
    found = fit(asked, 1, 1)
    wave = np.arange(len(both)) // 20
    return asked, found, diagnose(asked, found, planned, wave, models)


def sound(seed: int = 1, delta: float = 0.0) -> Pairs:
    """Each pair once, half of them the other way round."""
    random = np.random.default_rng(seed)
    theta = np.linspace(-2, 2, N)
    pairs = []
    for low, high in random.permutation(list(combinations(range(N), 2))).tolist():
        first, second = (low, high) if random.random() < 0.5 else (high, low)
        wins = random.random() < expit(theta[first] - theta[second] + delta)
        pairs.append((first, second, bool(wins)))
    return pairs


def repeats(pairs: Pairs, count: int, same: int) -> Pairs:
    """The first pairs the other way round; `same` of them with the same winner."""
    return [
        (second, first, not won if number < same else won)
        for number, (first, second, won) in enumerate(pairs[:count])
    ]


def test_a_sound_judge_has_no_flags() -> None:
    pairs = sound()
    _, _, found = judged(pairs, repeats(pairs, 8, same=7))
    assert found.flags == ()
    assert found.consistency == pytest.approx(7 / 8)
    assert 0.7 < found.items.infit.mean() < 1.1


@pytest.mark.parametrize(
    ("count", "same", "flags"), [(8, 5, ("inconsistent",)), (4, 0, ()), (8, 6, ())]
)
def test_repeats_with_other_winners(count: int, same: int, flags: tuple[str, ...]) -> None:
    pairs = sound()
    _, _, found = judged(pairs, repeats(pairs, count, same))
    assert found.flags == flags


def test_without_repeats_there_is_no_consistency() -> None:
    assert judged(sound(), [])[2].consistency is None


def test_a_judge_that_prefers_the_first() -> None:
    _, _, found = judged(sound(delta=1.0), [])
    assert "order_effect" in found.flags
    assert found.first_share > 0.6


def test_a_judge_that_changes_half_way_drifts() -> None:
    pairs = sound()
    half = len(pairs) // 2
    turned = [(a, b, True) for a, b, _ in pairs[half:]]
    assert "drift" in judged([*pairs[:half], *turned], [])[2].flags


def test_a_wave_of_coin_tosses_is_found() -> None:
    pairs = sound()
    tossed = [(a, b, not won if 100 <= k < 120 else won) for k, (a, b, won) in enumerate(pairs)]
    found = judged(tossed, [])[2]
    assert "misfitting_wave" in found.flags
    assert int(found.waves.infit.argmax()) == 5


def test_an_item_judged_against_its_quality_is_misfit() -> None:
    turned = [(a, b, (a > b) if 19 not in (a, b) else (a < b)) for a, b, _ in sound()]
    mixed = [(a, b, (a + b) % 2 == 0 if 10 in (a, b) else won) for a, b, won in turned]
    assert judged(mixed, [])[2].is_misfit[10]


def test_circular_triads_are_counted() -> None:
    circle = [(0, 1, True), (1, 2, True), (2, 0, True), (3, 4, True), (4, 5, True), (3, 5, True)]
    found = judged(circle, [(1, 0, True)])[2]
    assert found.triads == 1
    expected = 0.0
    asked, scores, _ = judged(circle, [])
    p = scores.p_first(asked.first, asked.second)
    for a, b, c in (p[:3], (p[3], p[4], 1 - p[5])):
        expected += a * b * c + (1 - a) * (1 - b) * (1 - c)
    assert judged(circle, [])[2].triads_expected == pytest.approx(expected)


def test_more_circles_than_the_scores_let_expect_are_flagged() -> None:
    """Scores of a strict order, and the answers of a coin."""
    order = [(a, b, a > b) for a, b, _ in sound()]
    _, scores, _ = judged(order, [])
    random = np.random.default_rng(1)
    tossed, _, _ = judged([(a, b, bool(random.random() < 0.5)) for a, b, _ in order], [])
    nothing = np.zeros(tossed.count, np.bool_)
    planned = Planned(N, tossed.first, tossed.second, nothing, ~nothing, nothing)
    found = diagnose(tossed, scores, planned, np.zeros(tossed.count, np.int64), models=1)
    assert "circular" in found.flags


def test_two_models_are_named() -> None:
    assert judged(sound(), [], models=2)[2].flags == ("several_models",)


def test_infit_is_the_ratio_of_squared_residuals_to_their_expectation() -> None:
    asked, scores, _ = judged(sound(), [])
    p = scores.p_first(asked.first, asked.second)
    mine = (asked.first == 7) | (asked.second == 7)
    q = p * (1 - p)
    a, b = asked.first, asked.second
    of_difference = scores.cov[a, a] + scores.cov[b, b] - 2 * scores.cov[a, b]
    expected = (q * (1 - q * of_difference))[mine].sum()
    infit = ((asked.first_won - p) ** 2)[mine].sum() / expected
    z = (infit - 1) * expected / np.sqrt((q - 4 * q**2)[mine].sum())
    found = infit_of_items(asked, scores)
    assert (found.infit[7], found.z[7]) == (pytest.approx(infit), pytest.approx(z))
