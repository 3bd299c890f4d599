"""Scores of the items of a run from the answers of its judge, and how sure they are.

Model (Bradley and Terry 1952, order effect of Davidson and Beaver 1977): the item shown first wins with probability
logistic(theta_first - theta_second + delta). Priors: theta ~ N(0, s²), delta ~ N(0, 0.5²), log s ~ N(log 1.2, 0.6²)
on ten values of s. For each s the posterior is approximated by a normal distribution at its mode (Laplace); their
mixture, weighted by the evidence of each s, is the result. Scores are logits; their mean is 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import expit
from threadpoolctl import ThreadpoolController

from tables.judging.seeded import generator

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Flags = NDArray[np.bool_]

SPREADS: Floats = np.geomspace(0.2, 4.0, 10)
LOG_PRIOR: Floats = -0.5 * ((np.log(SPREADS) - np.log(1.2)) / 0.6) ** 2
ORDER_SD = 0.5
NO_SPREAD = 0.3  # below it, items are alike or the judge tosses coins
REPEAT_DISCOUNT = 0.8  # a repeated pair is hardly new evidence
NEGLIGIBLE = 1e-12  # weight of a component that is left out
STEP = 1e-8
STEP_MAX = 1.0
ITERATIONS_MAX = 200
DRAWS = 400
DECIMALS = 9  # coarser than what differs between processors

BLAS = ThreadpoolController()  # one thread: the same sums in the same order everywhere


@dataclass(frozen=True, eq=False)
class Answers:
    """Answered comparisons of `items` items. first, second (m,): item numbers; first_won (m,): bool."""

    items: int
    first: Integers
    second: Integers
    first_won: Flags

    @property
    def count(self) -> int:
        return len(self.first)

    @cached_property
    def pairs(self) -> tuple[Integers, Integers]:
        """The distinct unordered pairs as low * items + high (u,), and for each comparison its pair (m,)."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        codes, index = np.unique(low * self.items + high, return_inverse=True)
        return codes, index.reshape(-1)

    @cached_property
    def weights(self) -> Floats:
        """1 / (1 + 0.8 (k - 1)) for each comparison of a pair that was asked k times (m,)."""
        _, index = self.pairs
        asked = np.bincount(index)[index]
        return np.asarray(1.0 / (1.0 + REPEAT_DISCOUNT * (asked - 1.0)))


@dataclass(frozen=True, eq=False)
class Fit:
    """Scores and their reliability.

    theta, se (n,) and cov (n, n) in logits, centred; spread_weights (10,): posterior of s; pr: mean squared correlation
    of the scores with draws of the posterior; bound: its 5 % quantile; ssr: scale separation reliability, shown only
    (under adaptive pairing it is far too high).
    """

    theta: Floats
    cov: Floats
    delta: float
    delta_se: float
    spread_weights: Floats
    pr: float
    bound: float

    @property
    def se(self) -> Floats:
        return np.asarray(np.sqrt(np.diag(self.cov)))

    @property
    def variance(self) -> float:
        """Variance of the scores."""
        return float(np.var(self.theta))

    @property
    def error_variance(self) -> float:
        """Mean squared standard error."""
        return float(np.mean(np.diag(self.cov)))

    @property
    def ssr(self) -> float:
        return 1.0 - self.error_variance / self.variance if self.variance > 0 else 0.0

    @property
    def spread(self) -> float:
        """Posterior mean of s."""
        return float(self.spread_weights @ SPREADS)

    @property
    def p_no_spread(self) -> float:
        return float(self.spread_weights[SPREADS < NO_SPREAD].sum())

    def p_first(self, first: Integers, second: Integers) -> Floats:
        """Probability that the item shown first wins."""
        return np.asarray(expit(self.theta[first] - self.theta[second] + self.delta))


def fit(answers: Answers, seed: int, wave: int) -> Fit:
    """Fit all answers so far; deterministic. Needs at least two items."""
    with BLAS.limit(limits=1, user_api="blas"):
        return _fit(answers, seed, wave)


def _fit(answers: Answers, seed: int, wave: int) -> Fit:
    n = answers.items
    system = NormalEquations(answers)
    modes = np.array(list(_modes(system)))
    log_evidence = [system.log_evidence(b, s) for b, s in zip(modes, SPREADS, strict=True)]
    weights = _normalised(np.array(log_evidence) + LOG_PRIOR)
    mean = weights @ modes
    theta = mean[:n] - mean[:n].mean()
    cov = np.zeros((n, n))
    delta_variance = 0.0
    draws = np.empty((n, DRAWS))
    normal = generator(seed, "draws", wave).standard_normal((n + 1, DRAWS))
    component_of = np.searchsorted(np.cumsum(weights), (np.arange(DRAWS) + 0.5) / DRAWS)
    for k in np.flatnonzero(weights):
        factor = system.factor(modes[k], SPREADS[k])
        mine = np.flatnonzero(component_of == k)
        if len(mine):
            solved, _ = lapack.dtrtrs(factor, normal[:, mine], lower=1, trans=1)
            draws[:, mine] = solved[:n] + modes[k][:n, None]
        inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        away = modes[k] - mean
        delta_variance += weights[k] * (inverse[n, n] + away[n] ** 2)
        cov += weights[k] * (_symmetric(inverse[:n, :n]) + np.outer(away[:n], away[:n]))
    r2 = _squared_correlations(draws, theta)
    return Fit(
        theta=np.round(theta, DECIMALS),
        cov=np.round(_centred(cov), DECIMALS),
        delta=round(float(mean[n]), DECIMALS),
        delta_se=round(float(np.sqrt(delta_variance)), DECIMALS),
        spread_weights=np.round(weights, DECIMALS),
        pr=round(float(r2.mean()), DECIMALS),
        bound=round(float(np.quantile(r2, 0.05)), DECIMALS),
    )


def mode(answers: Answers, spread: float, order_sd: float = ORDER_SD) -> Floats:
    """The most probable scores and delta for one s: (n + 1,), not centred."""
    system = NormalEquations(answers, order_sd)
    with BLAS.limit(limits=1, user_api="blas"):
        return system.mode(np.zeros(answers.items + 1), spread)


def _modes(system: "NormalEquations") -> Iterator[Floats]:
    """The mode for each s in rising order; each starts from the one before."""
    b = np.zeros(system.size)
    for spread in SPREADS:
        b = system.mode(b, spread)
        yield b


class NormalEquations:
    """Gradient and Hessian of the log posterior at b = (theta, delta), for one s at a time."""

    def __init__(self, answers: Answers, order_sd: float = ORDER_SD) -> None:
        n = answers.items
        self.size = n + 1
        self._answers = answers
        self._order_precision = order_sd**-2
        self._won = answers.first_won.astype(np.float64)
        codes, self._pair = answers.pairs
        self._below = codes // n * self.size + codes % n  # column low, row high, in Fortran order
        self._cells = np.zeros(self.size * self.size)

    def mode(self, b: Floats, spread: float) -> Floats:
        """Newton's method from b until a step is below 1e-8; long steps are cut: it converges from anywhere."""
        for _ in range(ITERATIONS_MAX):
            factor = self.factor(b, spread)
            step, _ = lapack.dpotrs(factor, self._gradient(b, spread), lower=1)
            longest = np.abs(step).max()
            b = b + step * min(1.0, STEP_MAX / longest) if longest else b
            if longest < STEP:
                return b
        raise ArithmeticError(f"no mode after {ITERATIONS_MAX} steps at spread {spread}")

    def factor(self, b: Floats, spread: float) -> Floats:
        """The lower Cholesky factor of the negative Hessian (n + 1, n + 1); the upper triangle has no meaning."""
        answers, n = self._answers, self._answers.items
        p = expit(self._eta(b))
        q = answers.weights * p * (1.0 - p)
        as_first = np.bincount(answers.first, q, n)
        as_second = np.bincount(answers.second, q, n)
        self._cells.fill(0.0)
        self._cells[self._below] = -np.bincount(self._pair, q, len(self._below))
        matrix = self._cells.reshape((self.size, self.size), order="F")
        matrix[n, :n] = as_first - as_second
        matrix[np.diag_indices(n)] = as_first + as_second + spread**-2
        matrix[n, n] = q.sum() + self._order_precision
        factor, failed_at = lapack.dpotrf(matrix, lower=1, clean=0)
        if failed_at:
            raise ArithmeticError(f"not positive definite in row {failed_at}")
        return np.asarray(factor)

    def log_evidence(self, b: Floats, spread: float) -> float:
        """Laplace's approximation of the log probability of the answers, given s."""
        eta = self._eta(b)
        fits = self._answers.weights @ (self._won * eta - np.logaddexp(0.0, eta))
        log_determinant = 2.0 * np.log(np.diag(self.factor(b, spread))).sum()
        precision = self._precision(spread)
        return float(
            fits - 0.5 * (precision * b) @ b + 0.5 * np.log(precision).sum() - 0.5 * log_determinant
        )

    def _gradient(self, b: Floats, spread: float) -> Floats:
        answers, n = self._answers, self._answers.items
        residual = answers.weights * (self._won - expit(self._eta(b)))
        gradient = -self._precision(spread) * b
        gradient[:n] += np.bincount(answers.first, residual, n)
        gradient[:n] -= np.bincount(answers.second, residual, n)
        gradient[n] += residual.sum()
        return gradient

    def _eta(self, b: Floats) -> Floats:
        return np.asarray(b[self._answers.first] - b[self._answers.second] + b[-1])

    def _precision(self, spread: float) -> Floats:
        precision = np.full(self.size, spread**-2)
        precision[-1] = self._order_precision
        return precision


def _normalised(log_weights: Floats) -> Floats:
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    weights[weights < NEGLIGIBLE] = 0.0
    return np.asarray(weights / weights.sum())


def _symmetric(lower: Floats) -> Floats:
    triangle = np.tril(lower)
    return np.asarray(triangle + np.tril(triangle, -1).T)


def _centred(cov: Floats) -> Floats:
    """The covariance of the scores minus their mean."""
    cov = cov - cov.mean(axis=0)
    return np.asarray(cov - cov.mean(axis=1)[:, None])


def _squared_correlations(draws: Floats, theta: Floats) -> Floats:
    """Of each draw (n, draws) with the scores (n,); 0 where either is constant."""
    draws = draws - draws.mean(axis=0)
    scale = (draws**2).sum(axis=0) * (theta @ theta)
    r2 = np.zeros(draws.shape[1])
    np.divide((theta @ draws) ** 2, scale, out=r2, where=scale > 0)
    return r2
