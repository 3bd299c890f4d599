"""Grades as distributions: exact sums, grades of the scale alone, reasons of refusals, doubt about odd anchors."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Malformed
from schemas.scales import SCALES
from tables.judging.grade_model import FIRST_E, LOG_S, MU, GradeModel
from tables.judging.grade_projection import (
    MILLION,
    Grades,
    NoGrades,
    categories_of,
    own_probabilities,
    project,
    rounded_to_million,
    tau_b,
)
from tables.judging.importance_sampling import sample

SWEDISH, LEGACY = SCALES["swedish_8_anchor"], SCALES["eng5_np_legacy_9_step"]
NATIONAL = SCALES["eng5_np_national_9_step"]
ANCHORS = {"F": -3.2, "E": -2.0, "D": -1.0, "D+": -0.3, "C": 0.4, "C+": 1.1, "B": 2.0, "A": 3.0}
PUPILS = (-6.0, -1.0, 0.0, 0.4, 1.5, 4.0)


def projected(
    anchors: Sequence[tuple[str, float]] = tuple(ANCHORS.items()),
    pupils: Sequence[float] = PUPILS,
    scale: str = "swedish_8_anchor",
    variance: float = 0.2,
    seed: int = 5,
) -> Grades | NoGrades:
    theta = np.array([*pupils, *(theta for _, theta in anchors)])
    grades = [grade for grade, _ in anchors]
    return project(SCALES[scale], grades, theta, np.full(len(theta), variance), seed, 7)


def graded(*args: object, **changes: object) -> Grades:
    found = projected(*args, **changes)  # type: ignore[arg-type]
    assert isinstance(found, Grades)
    return found


def test_each_pupil_gets_a_distribution_around_the_grade_of_its_score() -> None:
    found = graded()
    assert [pupil.grade for pupil in found.pupils] == ["F", "D", "C", "C", "C+", "A"]
    for pupil in found.pupils:
        assert [grade for grade, _ in pupil.distribution] == list(SWEDISH.grades)
        assert sum(Decimal(repr(p)) for _, p in pupil.distribution) == 1
        assert pupil.probability == max(p for _, p in pupil.distribution)
    assert list(found.thresholds) == sorted(found.thresholds)
    assert len(found.thresholds) == 7
    assert 0.1 < found.sigma < 1
    assert found.flags == ()


def test_the_same_seed_and_wave_give_the_same_grades_and_another_seed_nearly_the_same() -> None:
    one, again, other = graded(), graded(), graded(seed=6)
    assert one.pupils == again.pupils
    assert one.thresholds == again.thresholds
    assert one.pupils != other.pupils
    for a, b in zip(one.pupils, other.pupils, strict=True):
        assert a.probability == pytest.approx(b.probability, abs=0.05)


def test_the_set_is_the_fewest_grades_with_ninety_percent() -> None:
    for pupil in graded().pupils:
        inside = [p for grade, p in pupil.distribution if grade in pupil.set_90]
        outside = [p for grade, p in pupil.distribution if grade not in pupil.set_90]
        assert sum(inside) >= 0.9
        assert sum(inside) - min(inside) < 0.9
        assert min(inside) >= max(outside, default=0)


def test_how_sure_a_grade_is_has_a_label() -> None:
    labels = {
        pupil.label: pupil.probability
        for pupil in graded(variance=0.01).pupils + graded(variance=2.0).pupils
    }
    assert labels["HIGH"] >= 0.7 > labels["MID"] >= 0.4 > labels["LOW"]


@pytest.mark.parametrize(("scale", "lowest"), [(LEGACY, "F"), (NATIONAL, "0")])
def test_a_pupil_far_below_gets_the_grade_below_the_lowest_where_there_is_one(
    scale: object, lowest: str
) -> None:
    used = LEGACY if scale is LEGACY else NATIONAL
    anchors = list(zip(used.grades, np.linspace(-2.0, 3.0, 9).tolist(), strict=True))
    found = graded(anchors, scale=used.id, variance=0.05)
    assert found.pupils[0].grade == lowest
    assert [grade for grade, _ in found.pupils[0].distribution] == [lowest, *used.grades]
    assert all(dict(pupil.distribution)[lowest] < 0.1 for pupil in found.pupils[2:])
    assert len(found.thresholds) == 9


def test_an_anchor_may_have_the_grade_below_the_lowest() -> None:
    anchors = [("F", -4.0), ("F", -3.6), ("F+", -2.5), ("E-", -1.8), ("D-", -0.5), ("B", 1.8)]
    assert graded(anchors, (-3.8,), LEGACY.id, 0.05).pupils[0].grade == "F"


def test_nothing_lies_below_the_lowest_swedish_grade() -> None:
    found = graded(pupils=(-40.0,))
    assert found.pupils[0].grade == "F"
    assert {grade for grade, _ in found.pupils[0].distribution} == set(SWEDISH.grades)
    names, shares = categories_of(SWEDISH)
    assert (names, shares.sum()) == (SWEDISH.grades, pytest.approx(1))
    names, shares = categories_of(LEGACY)
    assert (names[0], shares[0], shares.sum()) == ("F", 0.02, pytest.approx(1))


@pytest.mark.parametrize(
    ("anchors", "reason", "flags"),
    [
        ([("E", -1.0), ("A", 1.0)], "too_few_anchors", ()),
        ([("C", -1.0), ("C", 1.0), ("C", 0.0)], "too_few_anchors", ()),
        ([("E", 0.2), ("C", 0.1), ("B", 0.0)], "anchors_disordered", ("few_grades", "weak_order")),
    ],
)
def test_grades_are_refused_as_a_whole(
    anchors: list[tuple[str, float]], reason: str, flags: tuple[str, ...]
) -> None:
    assert projected(anchors) == NoGrades(reason, flags)


def test_equal_scores_are_no_order() -> None:
    """As after a judge that always takes the first."""
    assert projected([("E", 0.0), ("C", 0.0), ("B", 0.0)]) == NoGrades(
        "anchors_disordered", ("few_grades", "weak_order")
    )


def test_few_grades_and_a_weak_order_are_flagged() -> None:
    assert graded([("E", -1.0), ("C", 0.1), ("B", 1.0)]).flags == ("few_grades",)
    swapped = [*list(ANCHORS.items())[::2], ("E", 1.2), ("D+", 2.4), ("C+", -0.5)]
    assert "weak_order" in graded(swapped).flags


def test_two_hundred_anchors_without_error_are_no_obstacle() -> None:
    many = [(grade, theta) for grade, theta in ANCHORS.items() for _ in range(25)]
    assert graded(many, variance=1e-4).effective_size >= 200


@pytest.mark.parametrize(("far", "power"), [(1e3, 3), (1e12, 1)])
def test_scores_that_no_thresholds_explain_give_no_grades(far: float, power: int) -> None:
    """Too few draws count, or there are no digits left to find them with."""
    scores = np.linspace(-1, 1, 12) ** power * far
    grades = [SWEDISH.grades[k] for k in np.linspace(0, 7.9, 12).astype(int)]
    anchors = list(zip(grades, scores.tolist(), strict=True))
    assert projected(anchors, variance=1e-6) == NoGrades("unstable")


def test_an_anchor_with_a_wrong_grade_is_flagged_and_named() -> None:
    wrong = [("B" if grade == "E" else grade, theta) for grade, theta in ANCHORS.items()]
    found = graded(wrong, variance=0.1)
    assert "anchor_misplaced" in found.flags
    assert [bool(one) for one in found.is_misplaced] == [g == 1 for g in range(8)]


def test_an_anchors_own_probability_is_that_of_a_fit_without_it() -> None:
    names, shares = categories_of(SWEDISH)
    grade = np.array([names.index(name) for name in ANCHORS])
    theta, variance = np.array([*ANCHORS.values()]), np.full(8, 0.3)
    model = GradeModel(shares, grade, theta, variance)
    own = own_probabilities(model, sample(model.log_posterior, model.prior_mean, 3, 1))
    for anchor in range(8):
        kept = np.arange(8) != anchor
        without = GradeModel(shares, grade[kept], theta[kept], variance[kept])
        draws = sample(without.log_posterior, without.prior_mean, 3, 1)
        exact = without.probabilities(
            draws.points, draws.weights, theta[[anchor]], variance[[anchor]]
        )
        assert own[anchor] == pytest.approx(exact[0, grade[anchor]], rel=0.25)


def test_a_grade_of_no_scale_is_an_error() -> None:
    with pytest.raises(Malformed):
        projected([("F+", -1.0), ("C", 0.0), ("A", 1.0)])


def test_thresholds_are_those_of_the_model() -> None:
    """With e = 0, mu + s z; whatever e is, their middle stays and they are in order."""
    _, shares = categories_of(SWEDISH)
    nobody = np.empty(0)
    model = GradeModel(shares, nobody.astype(int), nobody, nobody)
    z = np.array([-2.053749, -1.281552, -0.67449, -0.125661, 0.524401, 1.036433, 1.644854])
    plain = np.zeros((1, 9))
    plain[0, MU], plain[0, LOG_S] = 0.5, np.log(2.0)
    assert model.thresholds(plain)[0] == pytest.approx(0.5 + 2 * z, abs=1e-5)
    bent = np.random.default_rng(1).normal(0, 2, (50, 9))
    found = model.thresholds(bent)
    assert (np.diff(found, axis=1) > 0).all()
    expected = bent[:, MU] + np.exp(bent[:, LOG_S]) * z.mean()
    assert found.mean(axis=1) == pytest.approx(expected, abs=1e-5)
    widened = np.diff(found, axis=1) / (np.diff(z) * np.exp(bent[:, LOG_S, None]))
    assert np.log(widened) == pytest.approx(bent[:, FIRST_E:], abs=1e-4)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10).filter(lambda ps: sum(ps) > 0.01))
def test_rounded_probabilities_add_up(probabilities: list[float]) -> None:
    shares = np.array(probabilities) / sum(probabilities)
    found = rounded_to_million(np.array(probabilities))
    assert found.sum() == MILLION
    assert (found >= 0).all()
    assert np.abs(found / MILLION - shares).max() <= 1e-6


def test_rank_correlation_allows_for_ties() -> None:
    theta = np.array([0.0, 1.0, 2.0, 3.0])
    assert tau_b(np.array([0, 1, 2, 3]), theta) == 1
    assert tau_b(np.array([3, 2, 1, 0]), theta) == -1
    assert tau_b(np.array([0, 0, 1, 1]), theta) == pytest.approx(4 / np.sqrt(4 * 6))
    assert tau_b(np.array([1, 1, 1, 1]), theta) == 0
