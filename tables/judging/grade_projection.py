"""Grades of pupils as distributions, from their scores and from anchors: essays whose grades experts gave. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from schemas.scales import GradeScale, grade_index, priors_of
from tables.judging.bradley_terry import BLAS, Floats, Integers
from tables.judging.grade_model import GradeModel
from tables.judging.importance_sampling import WeightedDraws, sample

BELOW_LOWEST = 0.02  # share of the grade below the lowest in a population, where a scale allows it
ANCHORS_MIN = 3
GRADES_MIN = 2
FEW_GRADES = 5
DISORDERED_TAU = 0.3
WEAK_TAU = 0.6
EFFECTIVE_MIN = 200.0  # draws
# probability of an anchor's own grade, without itself; at 0.02, one sound set of twelve in ten would have a flag
MISPLACED = 0.008
MILLION = 1_000_000  # a probability is published as so many millionths
SET_SHARE = 900_000
LABELS = ((0.70, "HIGH"), (0.40, "MID"), (0.0, "LOW"))


@dataclass(frozen=True, slots=True)
class PupilGrade:
    """distribution: grade and probability, low to high; the probabilities have six decimals and add up to exactly 1.

    grade: the most probable one, the lower one of two; set_90: the fewest grades that together have 90 %.
    """

    grade: str
    probability: float
    distribution: tuple[tuple[str, float], ...]
    set_90: tuple[str, ...]

    @property
    def label(self) -> str:
        """HIGH, MID or LOW: how sure the grade is."""
        return next(label for minimum, label in LABELS if self.probability >= minimum)


@dataclass(frozen=True, eq=False)
class Grades:
    """Grades of all pupils. sigma, thresholds: the experts' error and where each grade but the lowest begins, logits.

    own_probability (anchors,): of each anchor's own grade, had it not been an anchor; effective_size: of the draws.
    """

    pupils: tuple[PupilGrade, ...]
    sigma: float
    thresholds: tuple[float, ...]
    own_probability: Floats
    flags: tuple[str, ...]
    effective_size: float

    @property
    def is_misplaced(self) -> tuple[bool, ...]:
        """Which anchors have a grade that contradicts the others."""
        return tuple(bool(p < MISPLACED) for p in self.own_probability)

    @property
    def certainty(self) -> float:
        """The pupils' mean probability of their most probable grade."""
        return float(np.mean([pupil.probability for pupil in self.pupils]))


@dataclass(frozen=True, slots=True)
class NoGrades:
    """Why nobody gets a grade."""

    reason: str
    flags: tuple[str, ...] = ()


def project(
    scale: GradeScale,
    anchor_grades: Sequence[str],
    theta: Floats,
    variance: Floats,
    seed: int,
    wave: int,
) -> Grades | NoGrades:
    """The grades of pupils; theta, variance (n,): posterior means and variances of the scores of pupils, then anchors.

    Raises Malformed if a grade is not of the scale.
    """
    if len(anchor_grades) < ANCHORS_MIN or len(set(anchor_grades)) < GRADES_MIN:
        return NoGrades("too_few_anchors")
    names, shares = categories_of(scale)
    offset = len(names) - len(scale.grades)
    grade = np.array([grade_index(scale.id, one) + offset for one in anchor_grades])
    pupils = len(theta) - len(grade)
    tau = tau_b(grade, theta[pupils:])
    flags = {"few_grades": len(set(anchor_grades)) < FEW_GRADES, "weak_order": tau < WEAK_TAU}
    raised = tuple(name for name, is_raised in flags.items() if is_raised)
    if tau < DISORDERED_TAU:
        return NoGrades("anchors_disordered", raised)
    model = GradeModel(shares, grade, theta[pupils:], variance[pupils:])
    with BLAS.limit(limits=1, user_api="blas"):
        try:
            draws = sample(model.log_posterior, model.prior_mean, seed, wave)
        except ArithmeticError:
            return NoGrades("unstable", raised)
        if draws.effective_size < EFFECTIVE_MIN:
            return NoGrades("unstable", raised)
        return _grades(model, draws, names, theta[:pupils], variance[:pupils], raised)


def _grades(
    model: GradeModel,
    draws: WeightedDraws,
    names: tuple[str, ...],
    theta: Floats,
    variance: Floats,
    flags: tuple[str, ...],
) -> Grades:
    found = model.probabilities(draws.points, draws.weights, theta, variance)
    own = own_probabilities(model, draws)
    return Grades(
        pupils=tuple(_pupil_grade(names, row) for row in found),
        sigma=model.sigma(draws.points, draws.weights),
        thresholds=tuple((draws.weights @ model.thresholds(draws.points)).tolist()),
        own_probability=own,
        flags=(*flags, "anchor_misplaced") if (own < MISPLACED).any() else flags,
        effective_size=draws.effective_size,
    )


def categories_of(scale: GradeScale) -> tuple[tuple[str, ...], Floats]:
    """Every grade that a pupil may get, low to high, and their shares in a population.

    Without a grade below the lowest, the lowest one is open downwards.
    """
    priors = priors_of(scale.id)
    shares = np.array([priors[grade] for grade in scale.grades])
    shares /= shares.sum()
    if scale.below_lowest_grade is None:
        return scale.grades, shares
    names = (scale.below_lowest_grade, *scale.grades)
    return names, np.array([BELOW_LOWEST, *(1.0 - BELOW_LOWEST) * shares])


def own_probabilities(model: GradeModel, draws: WeightedDraws) -> Floats:
    """Of each anchor's grade given the other anchors (n,): 1 / E[1 / p] over the draws (Gelfand and Dey 1994)."""
    log_p = model.log_likelihoods(draws.points)
    log_mean = logsumexp(draws.log_weights[:, None] - log_p, axis=0)
    return np.asarray(np.round(np.exp(-log_mean), 6))


def tau_b(grade: Integers, theta: Floats) -> float:
    """Rank correlation that allows for ties (Kendall 1945); 0 if either is constant."""
    by_grade = np.sign(grade[:, None] - grade)
    by_theta = np.sign(theta[:, None] - theta)
    pairs = np.sqrt((by_grade**2).sum()) * np.sqrt((by_theta**2).sum())
    return round(float((by_grade * by_theta).sum() / pairs), 9) if pairs else 0.0


def _pupil_grade(names: tuple[str, ...], probabilities: Floats) -> PupilGrade:
    millionths = rounded_to_million(probabilities)
    best = int(np.argmax(millionths))
    by_probability = np.argsort(-millionths, kind="stable")
    count = int(np.searchsorted(np.cumsum(millionths[by_probability]), SET_SHARE)) + 1
    in_set = sorted(by_probability[:count].tolist())
    return PupilGrade(
        grade=names[best],
        probability=int(millionths[best]) / MILLION,
        distribution=tuple(
            (name, int(p) / MILLION) for name, p in zip(names, millionths, strict=True)
        ),
        set_90=tuple(names[k] for k in in_set),
    )


def rounded_to_million(probabilities: Floats) -> Integers:
    """Probabilities as millionths that add up to a million: largest remainders, of two the lower grade's first."""
    shares = np.maximum(probabilities, 0.0)
    exact = np.round(shares / shares.sum() * MILLION, 3)
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: MILLION - int(whole.sum())]] += 1
    return np.asarray(whole)
