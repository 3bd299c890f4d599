"""Grades as people see them: in a terminal, and as bars on a page."""

from dataclasses import asdict
from typing import Any

import pytest

from schemas.judging_events import GradeProbability, Grading
from tests.support.judging_builders import batch_judged
from tools.api.console.grade_plot import grade_plot
from tools.results.grade_tables import anchor_rows, grade_of, grade_rows, grading_facts

DISTRIBUTION = (
    GradeProbability(grade="C", p=0.289),
    GradeProbability(grade="B", p=0.71),
    GradeProbability(grade="A", p=0.001),
)


def document(**grading: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"status": "graded", "flags": (), "thresholds": (), "sigma": 0.41}
    return asdict(batch_judged(grading=Grading(**values | grading)))


def essay(**changes: Any) -> dict[str, Any]:
    decided = {"distribution": DISTRIBUTION, "grade_reason": None}
    found: dict[str, Any] = asdict(batch_judged())["essays"][0]
    return found | {**decided, "distribution": [asdict(one) for one in DISTRIBUTION]} | changes


def test_thresholds_are_named_by_the_grades_that_begin_there() -> None:
    facts = dict(
        grading_facts(document(thresholds=(-3, -2, -1, 0, 1, 2, 3.0), flags=("few_grades",)))
    )
    assert facts["grades"] == "by 1 anchors, error 0.41 logits (few_grades)"
    assert facts["thresholds"].startswith("E from -3.00, D from -2.00")
    assert facts["thresholds"].endswith("A from 3.00")


def test_without_grades_the_reason_is_named() -> None:
    refused = document(status="none", reason="too_few_anchors", sigma=None)
    assert grading_facts(refused) == [("grades", "none: too_few_anchors")]
    assert grading_facts(document(status="not_asked", sigma=None)) == []


def test_an_essay_has_its_grade_how_sure_it_is_and_its_distribution() -> None:
    (row,) = grade_rows([essay()])
    assert row == ("essay-0", "B", "0.71", "HIGH", "A B", "C 29 %, B 71 %")
    assert grade_of(essay()) == "grade B (HIGH): C 29 %, B 71 %"


def test_an_undecided_essay_says_so() -> None:
    undecided = essay(
        grade=None, grade_label=None, grade_probability=None, grade_reason="undecided"
    )
    assert grade_rows([undecided])[0][1:4] == ("undecided", "", "")
    assert grade_of(undecided).startswith("grade undecided: C 29 %")


def test_an_anchor_has_what_the_others_say_of_its_grade() -> None:
    (anchor,) = document()["anchors"]
    assert anchor_rows([anchor]) == [("anchor-0", "C", "0.300", "misfit")]
    assert "with probability 0.300" in grade_of(anchor)
    assert grade_of({"comparisons": 1}) == ""


def test_bars_are_as_wide_as_their_grades_are_probable() -> None:
    (row,) = grade_plot([essay(), essay(distribution=[])])
    assert [(one.grade, one.start, one.width) for one in row.segments] == [
        ("C", 0.0, 28.9),
        ("B", 28.9, 71.0),
        ("A", pytest.approx(99.9), 0.1),
    ]
    assert [one.shade for one in row.segments] == [0, 0.5, 1]
