"""The order and the limits of the rules that end a run."""

from dataclasses import replace

import numpy as np
import pytest

from tables.judging.bradley_terry import SPREADS, Fit
from tables.judging.stopping_rule import (
    Stop,
    Targets,
    WaveScores,
    after_wave,
    is_provider_failing,
)

TARGETS = Targets()


def scores(
    *,
    bound: float = 0.5,
    wave: int = 9,
    compared: float = 9.0,
    items: int = 10,
    p_no_spread: float = 0.0,
    error: float = 0.1,
) -> WaveScores:
    weights = np.zeros(len(SPREADS))
    weights[0], weights[5] = p_no_spread, 1 - p_no_spread
    theta = np.resize([-1.0, 1.0], items)
    cov = np.eye(items) * error
    fit = Fit(theta, cov, 0.0, 0.1, weights, bound, bound)
    return WaveScores(wave, compared, lambda: fit)


def test_in_between_a_run_goes_on() -> None:
    assert after_wave(scores(), scores(), TARGETS) is None


@pytest.mark.parametrize(
    ("changes", "is_reliable"),
    [
        ({"bound": 0.70}, True),
        ({"bound": 0.699999}, False),
        ({"wave": 4, "bound": 0.9}, True),
        ({"wave": 3, "bound": 0.9}, False),
        ({"items": 5, "bound": 0.9}, True),
        ({"items": 4, "bound": 0.9}, False),
    ],
)
def test_reliable(changes: dict[str, float], is_reliable: bool) -> None:
    found = after_wave(scores(**changes), scores(bound=0.9), TARGETS)  # type: ignore[arg-type]
    assert (found == Stop("complete", "reliable")) is is_reliable


def test_one_wave_alone_is_not_reliable() -> None:
    assert after_wave(scores(bound=0.9), None, TARGETS) is None
    assert after_wave(scores(bound=0.9), scores(bound=0.699999), TARGETS) is None


def test_a_run_may_set_its_target() -> None:
    half = scores(bound=0.5)
    assert after_wave(half, half, Targets(target_bound=0.5)) is not None
    assert after_wave(scores(bound=0.8), scores(bound=0.8), Targets(target_bound=0.9)) is None


NOISE = {"compared": 12.0, "p_no_spread": 0.26, "bound": 0.19}


@pytest.mark.parametrize(
    ("changes", "is_noise"),
    [
        ({}, True),
        ({"compared": 11.9}, False),
        ({"p_no_spread": 0.25}, False),
        ({"bound": 0.2}, False),
    ],
)
def test_no_signal(changes: dict[str, float], is_noise: bool) -> None:
    found = after_wave(scores(**NOISE | changes), None, TARGETS)  # type: ignore[arg-type]
    assert (found == Stop("failed", "no_signal")) is is_noise


# variance 1, error e after m of 24: 1 / (1 + e m / 24) < 0.72
HOPELESS = {"compared": 10.0, "error": 0.94}


@pytest.mark.parametrize(
    ("changes", "is_unreachable"),
    [
        ({}, True),
        ({"compared": 9.9, "error": 1.0}, False),
        ({"error": 0.93}, False),
        ({"p_no_spread": 0.01}, False),  # it may still turn out to be no signal
        ({"p_no_spread": 0.01, "compared": 16.0}, True),
    ],
)
def test_unreachable(changes: dict[str, float], is_unreachable: bool) -> None:
    here = scores(**HOPELESS | changes)  # type: ignore[arg-type]
    assert (after_wave(here, here, TARGETS) == Stop("partial", "unreachable")) is is_unreachable
    assert after_wave(here, None, TARGETS) is None
    assert after_wave(here, replace(here, compared=9.0), TARGETS) is None


def test_no_signal_comes_before_unreachable() -> None:
    both = scores(**NOISE | {"compared": 16.0, "error": 2.0})  # type: ignore[arg-type]
    assert after_wave(both, both, TARGETS) == Stop("failed", "no_signal")


@pytest.mark.parametrize(
    ("lost_of", "is_failing"),
    [
        ([(0, 10)], False),
        ([(2, 10)], False),
        ([(3, 10)], True),
        ([(4, 10), (0, 10)], False),
        ([(5, 10), (0, 10)], True),
        ([(9, 10), (0, 10), (0, 10)], False),
    ],
)
def test_over_a_fifth_of_two_waves_lost(lost_of: list[tuple[int, int]], is_failing: bool) -> None:
    assert is_provider_failing(lost_of) is is_failing
