"""Weighted draws from a density of a few dimensions that is known up to a constant.

The proposal is a multivariate t distribution (7 degrees of freedom) around the mode, with 1.1 times the inverse of the
negative Hessian there; it is re-centred on its own weighted draws while they are too unequal (adaptive importance
sampling: Oh and Berger 1992). The effective sample size is 1 / sum w² (Kish 1965).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack
from scipy.special import logsumexp

from tables.judging.bradley_terry import Floats
from tables.judging.seeded import generator

LogDensity = Callable[[Floats], Floats]  # of points (p, d): log densities (p,)
DRAWS = 1_500
DEGREES = 7
WIDENED = 1.1
ENOUGH = 500.0  # effective draws
RECENTRED_MAX = 3
DIFFERENCE = 1e-3  # of numerical derivatives
STEP = 1e-5
STEP_MAX = 1.0
ITERATIONS_MAX = 60
HALVINGS = 12
DAMPINGS = (0.0, *(10.0**power for power in range(-3, 7)))
DECIMALS = 6  # of the proposal: coarser than what differs between processors


@dataclass(frozen=True, eq=False)
class WeightedDraws:
    """points (draws, d); log_weights (draws,): those of weights whose sum is 1."""

    points: Floats
    log_weights: Floats

    @cached_property
    def weights(self) -> Floats:
        return np.asarray(np.exp(self.log_weights))

    @property
    def effective_size(self) -> float:
        return round(1.0 / float(self.weights @ self.weights), DECIMALS)


@dataclass(frozen=True, eq=False)
class _Proposal:
    """centre (d,); factor (d, d): the lower Cholesky factor of its scale matrix."""

    centre: Floats
    factor: Floats


def sample(log_density: LogDensity, start: Floats, seed: int, wave: int) -> WeightedDraws:
    """Draws of the density, which has its mode somewhere around start (d,); deterministic.

    Raises ArithmeticError if the density has no digits left around there.
    """
    proposal = _around_mode(log_density, start)
    draws = _draw(log_density, proposal, seed, wave, 0)
    for attempt in range(1, RECENTRED_MAX + 1):
        if draws.effective_size >= ENOUGH:
            break
        again = _draw(log_density, _around_draws(draws), seed, wave, attempt)
        draws = max(draws, again, key=lambda one: one.effective_size)
    return draws


def _draw(
    log_density: LogDensity, proposal: _Proposal, seed: int, wave: int, attempt: int
) -> WeightedDraws:
    d = len(proposal.centre)
    random = generator(seed, "grades", wave, attempt)
    normal = random.standard_normal((DRAWS, d))
    normal *= np.sqrt(DEGREES / random.chisquare(DEGREES, DRAWS))[:, None]
    points = proposal.centre + normal @ proposal.factor.T
    log_proposed = -0.5 * (DEGREES + d) * np.log1p((normal**2).sum(axis=1) / DEGREES)
    log_weights = log_density(points) - log_proposed
    return WeightedDraws(points, log_weights - logsumexp(log_weights))


def _around_draws(draws: WeightedDraws) -> _Proposal:
    centre = draws.weights @ draws.points
    away = draws.points - centre
    return _proposal(centre, WIDENED * (away.T * draws.weights) @ away)


def _around_mode(log_density: LogDensity, start: Floats) -> _Proposal:
    """Newton's method with numerical derivatives; long steps are cut, and halved while they lead downwards."""
    x = start
    for _ in range(ITERATIONS_MAX):
        value, gradient, precision = _derivatives(log_density, x)
        factor = _damped_factor(precision)
        step, _ = lapack.dpotrs(factor, gradient, lower=1)
        longest = float(np.abs(step).max())
        step *= min(1.0, STEP_MAX / longest) if longest else 1.0
        tried = x + step * 0.5 ** np.arange(HALVINGS)[:, None]
        values = log_density(tried)
        better = np.flatnonzero(values > value)
        if longest < STEP or not len(better):
            break
        x = tried[better[0]]
    inverse, _ = lapack.dpotri(factor, lower=1)
    return _proposal(x, WIDENED * inverse)


def _proposal(centre: Floats, lower: Floats) -> _Proposal:
    """lower: the lower triangle of the scale matrix."""
    factor = _damped_factor(lower)
    return _Proposal(np.round(centre, DECIMALS), np.round(np.tril(factor), DECIMALS))


def _damped_factor(lower: Floats) -> Floats:
    """The lower Cholesky factor of a matrix, or of the first that is positive definite with more on its diagonal."""
    for damping in DAMPINGS:
        factor, failed_at = lapack.dpotrf(lower + damping * np.eye(len(lower)), lower=1, clean=0)
        if not failed_at:
            return np.asarray(factor)
    raise ArithmeticError("no multiple of the unit matrix makes it positive definite")


def _derivatives(log_density: LogDensity, x: Floats) -> tuple[float, Floats, Floats]:
    """Value, gradient (d,) and negative Hessian (d, d) at x (d,), by central differences."""
    d, h = len(x), DIFFERENCE
    unit = h * np.eye(d)
    row, column = np.tril_indices(d, -1)
    both = unit[row] + unit[column]
    found = log_density(x + np.concatenate([np.zeros((1, d)), unit, -unit, both, -both]))
    value, up, down, both_up, both_down = np.split(found, np.cumsum([1, d, d, len(row)]))
    diagonal = (up + down - 2.0 * value) / h**2
    # f(x+a+b) + f(x-a-b) - f(x+a) - f(x-a) - f(x+b) - f(x-b) + 2 f(x) = 2 h² f_ab
    single = up + down
    mixed = (both_up + both_down - single[row] - single[column] + 2.0 * value) / (2.0 * h**2)
    precision = np.diag(-diagonal)
    precision[row, column] = precision[column, row] = -mixed
    return float(value[0]), np.asarray((up - down) / (2.0 * h)), precision
