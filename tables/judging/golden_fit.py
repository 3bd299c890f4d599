"""A small fit with known scores, with which `doctor` checks the numerics of a machine."""

import numpy as np

from tables.judging.bradley_terry import Answers, Fit, fit

TOLERANCE = 1e-6
ITEMS = 6
FIRST = (0, 2, 4, 1, 3, 5, 0, 1, 2, 5, 4, 3, 0, 2, 1)
SECOND = (1, 3, 5, 2, 4, 0, 3, 4, 5, 2, 0, 1, 4, 0, 5)
FIRST_WON = (0, 1, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0)
THETA = (-1.415964387, 0.300287922, 0.248916962, -0.703743345, 0.593877988, 0.97662486)
PR, BOUND, DELTA, SPREAD = 0.561620985, 0.043236038, -0.085144765, 1.37782952


def golden_fit() -> Fit:
    return fit(
        Answers(ITEMS, np.array(FIRST), np.array(SECOND), np.array(FIRST_WON, np.bool_)),
        seed=16,
        wave=5,
    )


def largest_difference() -> float:
    """Between this machine's golden fit and the recorded one; more than TOLERANCE is a defect."""
    found = golden_fit()
    expected = np.array([*THETA, PR, BOUND, DELTA, SPREAD])
    return float(
        np.abs(expected - [*found.theta, found.pr, found.bound, found.delta, found.spread]).max()
    )
