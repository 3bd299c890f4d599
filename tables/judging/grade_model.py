"""What the grades of anchors say about the thresholds between grades, as a log posterior density.

An ordered probit model (McKelvey and Zavoina 1975) with a normal error of the expert. z: the probit of the cumulative
shares of the grades in a population. Thresholds: t_k = mu + s mean(z) + c_k - mean(c), where c_k = c_(k-1) +
s (z_k - z_(k-1)) exp(e_k), so that they are always in order; with e = 0, t_k = mu + s z_k.
Priors: mu ~ N(0, 1.5²), log s ~ N(log 1.5, 0.5²), log sigma ~ N(log 0.4, 0.6²), each e ~ N(0, 0.35²).
An anchor with score m and variance v gets grade k with probability
Phi((t_(k+1) - m) / sqrt(v + sigma²)) - Phi((t_k - m) / sqrt(v + sigma²)); the outer thresholds are infinite.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from tables.judging.bradley_terry import Floats, Integers

MU, LOG_S, LOG_SIGMA, FIRST_E = range(4)  # columns of the parameters
PRIOR_MEAN = (0.0, float(np.log(1.5)), float(np.log(0.4)))
PRIOR_SD = (1.5, 0.5, 0.6)
E_SD = 0.35
NO_WIDTH = 1e-15  # of an interval between thresholds that floating point does not tell apart
PUPILS_AT_ONCE = 32  # bounds the memory


@dataclass(frozen=True, eq=False)
class GradeModel:
    """shares (k,): of the grades in a population, low to high; grade, theta, variance (n,): of the anchors."""

    shares: Floats
    grade: Integers
    theta: Floats
    variance: Floats

    @property
    def prior_mean(self) -> Floats:
        """The parameters mu, log s, log sigma and e (k + 1,) before any anchor."""
        return np.array([*PRIOR_MEAN, *(0.0,) * (len(self.shares) - 2)])

    def log_posterior(self, parameters: Floats) -> Floats:
        """Log densities up to a constant (p,) of parameters (p, k + 1)."""
        sd = np.array([*PRIOR_SD, *(E_SD,) * (len(self.shares) - 2)])
        prior = -0.5 * (((parameters - self.prior_mean) / sd) ** 2).sum(axis=1)
        return np.asarray(prior + self.log_likelihoods(parameters).sum(axis=1))

    def log_likelihoods(self, parameters: Floats) -> Floats:
        """Log probabilities of each anchor's own grade (p, n), given parameters (p, k + 1)."""
        bounds = np.pad(self.thresholds(parameters), ((0, 0), (1, 1)), constant_values=np.inf)
        bounds[:, 0] = -np.inf
        sd = np.sqrt(self.variance + _sigma(parameters)[:, None] ** 2)
        low = (bounds[:, self.grade] - self.theta) / sd
        high = (bounds[:, self.grade + 1] - self.theta) / sd
        is_upper = low > 0  # there, the other tail has the digits
        low, high = np.where(is_upper, -high, low), np.where(is_upper, -low, high)
        log_high = log_ndtr(high)
        width = -np.expm1(log_ndtr(low) - log_high)
        return np.asarray(log_high + np.log(np.maximum(width, NO_WIDTH)))

    def thresholds(self, parameters: Floats) -> Floats:
        """The lower thresholds of all grades but the lowest (p, k - 1), in logits."""
        z = ndtri(np.cumsum(self.shares)[:-1] / self.shares.sum())
        s = np.exp(parameters[:, LOG_S, None])
        steps = s * np.diff(z) * np.exp(parameters[:, FIRST_E:])
        c = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))
        middle = parameters[:, MU, None] + s * z.mean()
        return np.asarray(middle + c - c.mean(axis=1, keepdims=True))

    def sigma(self, parameters: Floats, weights: Floats) -> float:
        """The expert's error, in logits: the mean over weighted parameters."""
        return float(weights @ _sigma(parameters))

    def probabilities(
        self, parameters: Floats, weights: Floats, theta: Floats, variance: Floats
    ) -> Floats:
        """Probabilities (m, k) of the grades of pupils with these scores (m,): the mean over weighted parameters."""
        chunks = self._at_or_above(parameters, weights, theta, variance)
        at_or_above = np.pad(np.concatenate([*chunks]), ((0, 0), (1, 1)))
        at_or_above[:, 0] = 1.0
        return np.asarray(-np.diff(at_or_above, axis=1))

    def _at_or_above(
        self, parameters: Floats, weights: Floats, theta: Floats, variance: Floats
    ) -> Iterator[Floats]:
        """Probabilities (.., k - 1) of each threshold to be passed, for some pupils at a time."""
        thresholds, sigma2 = self.thresholds(parameters).T, _sigma(parameters) ** 2
        for start in range(0, len(theta), PUPILS_AT_ONCE):
            some = slice(start, start + PUPILS_AT_ONCE)
            sd = np.sqrt(variance[some, None] + sigma2)
            distance = theta[some, None, None] - thresholds
            yield ndtr(distance / sd[:, None, :]) @ weights


def _sigma(parameters: Floats) -> Floats:
    return np.asarray(np.exp(parameters[:, LOG_SIGMA]))
