"""Scores from answers: against another implementation, exact integrals and the symmetries of the model."""

from dataclasses import replace

import choix
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm

from tables.judging.bradley_terry import (
    ORDER_SD,
    SPREADS,
    Answers,
    NormalEquations,
    fit,
    mode,
)
from tables.judging.golden_fit import TOLERANCE, golden_fit, largest_difference


def answers(items: int, *comparisons: tuple[int, int, bool]) -> Answers:
    first, second, won = zip(*comparisons, strict=True)
    return Answers(items, np.array(first), np.array(second), np.array(won, np.bool_))


@st.composite
def some_answers(draw: st.DrawFn) -> Answers:
    items = draw(st.integers(2, 9))
    item = st.integers(0, items - 1)
    comparison = st.tuples(item, item, st.booleans()).filter(lambda asked: asked[0] != asked[1])
    return answers(items, *draw(st.lists(comparison, min_size=1, max_size=40)))


def simulated(items: int, comparisons: int, seed: int) -> Answers:
    """Each pair at most once, of a judge with an order effect of -0.2."""
    random = np.random.default_rng(seed)
    theta = random.normal(0, 1.5, items)
    low, high = np.triu_indices(items, 1)
    chosen = random.permutation(len(low))[:comparisons]
    swapped = random.random(comparisons) < 0.5
    first = np.where(swapped, high[chosen], low[chosen])
    second = np.where(swapped, low[chosen], high[chosen])
    won = random.random(comparisons) < expit(theta[first] - theta[second] - 0.2)
    return Answers(items, first, second, won)


@pytest.mark.parametrize("spread", [0.5, 1.2, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_scores_without_order_effect_agree_with_choix(spread: float, seed: int) -> None:
    asked = simulated(30, 200, seed)
    winners = np.where(asked.first_won, asked.first, asked.second)
    losers = np.where(asked.first_won, asked.second, asked.first)
    pairs = list(zip(winners.tolist(), losers.tolist(), strict=True))
    expected = choix.opt_pairwise(30, pairs, alpha=0.5 / spread**2, tol=1e-10)
    theta = mode(asked, spread, order_sd=1e-7)[:-1]
    assert np.abs(theta - theta.mean() - expected).max() < 1e-4


@given(some_answers(), st.sampled_from(SPREADS.tolist()))
def test_a_mode_is_found_from_any_answers_and_is_a_maximum(asked: Answers, spread: float) -> None:
    b = mode(asked, spread)
    precision = np.array([spread**-2] * asked.items + [ORDER_SD**-2])
    eta = b[asked.first] - b[asked.second] + b[-1]
    residual = asked.weights * (asked.first_won - expit(eta))
    gradient = -precision * b
    np.add.at(gradient, asked.first, residual)
    np.add.at(gradient, asked.second, -residual)
    gradient[-1] += residual.sum()
    assert np.abs(gradient).max() < 1e-7


@pytest.mark.parametrize("spread", [0.4, 1.2, 2.5])
def test_the_evidence_is_near_the_exact_integral(spread: float) -> None:
    asked = answers(4, (0, 1, True), (2, 3, False))
    found = np.exp(NormalEquations(asked).log_evidence(mode(asked, spread), spread))

    delta, step = np.linspace(-4, 4, 401, retstep=True)
    gap, width = np.linspace(-30, 30, 1201, retstep=True)  # of two scores: N(0, 2 s²)
    density = norm.pdf(gap, 0, 2**0.5 * spread) * width
    wins, loses = (expit(sign * (gap + delta[:, None])) @ density for sign in (1, -1))
    exact = (wins * loses) @ norm.pdf(delta, 0, ORDER_SD) * step
    assert found == pytest.approx(exact, rel=0.12)


def test_a_pair_asked_k_times_weighs_less_each_time() -> None:
    asked = answers(3, (0, 1, True), (1, 0, True), (1, 2, True), (0, 1, True))
    thrice = 1 / (1 + 0.8 * 2)
    assert asked.weights.tolist() == pytest.approx([thrice, thrice, 1, thrice])


@given(some_answers())
def test_item_numbers_do_not_matter(asked: Answers) -> None:
    number_of = np.random.default_rng(asked.count).permutation(asked.items)
    renumbered = replace(asked, first=number_of[asked.first], second=number_of[asked.second])
    one, other = fit(asked, 1, 1), fit(renumbered, 1, 1)
    assert np.abs(one.theta - other.theta[number_of]).max() < 1e-8
    assert np.abs(one.cov - other.cov[np.ix_(number_of, number_of)]).max() < 1e-8


@given(some_answers())
def test_opposite_answers_give_opposite_scores(asked: Answers) -> None:
    opposite = replace(asked, first_won=~asked.first_won)
    one, other = fit(asked, 1, 1), fit(opposite, 1, 1)
    assert np.abs(one.theta + other.theta).max() < 1e-8
    assert one.delta == pytest.approx(-other.delta, abs=1e-8)


@given(some_answers())
def test_scores_and_covariance_are_centred_and_sane(asked: Answers) -> None:
    found = fit(asked, 1, 1)
    assert abs(found.theta.sum()) < 1e-7
    assert np.abs(found.cov.sum(axis=0)).max() < 1e-7
    assert np.linalg.eigvalsh(found.cov).min() > -1e-7
    assert 0 <= found.bound <= found.pr <= 1 + 1e-9
    assert found.spread_weights.sum() == pytest.approx(1, abs=1e-7)


def test_a_seed_decides_the_draws_and_nothing_else() -> None:
    asked = simulated(20, 100, 1)
    one, again, other = fit(asked, 1, 4), fit(asked, 1, 4), fit(asked, 2, 4)
    assert (one.pr, one.bound) == (again.pr, again.bound)
    assert (one.pr, one.bound) != (other.pr, other.bound)
    assert one.theta.tolist() == other.theta.tolist()


def test_an_order_effect_is_found() -> None:
    asked = simulated(40, 700, 3)
    found = fit(asked, 1, 1)
    assert abs(found.delta + 0.2) < 3 * found.delta_se
    assert 0.05 < found.delta_se < 0.15


def test_the_golden_fit_is_as_recorded() -> None:
    assert golden_fit().theta.size == 6
    assert largest_difference() < TOLERANCE
