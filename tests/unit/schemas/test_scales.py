"""Grade scales: the three released ones never change, and a contradictory scale is refused."""

import hashlib
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import orjson
import pytest

from schemas.errors import Malformed, Misconfigured
from schemas.scales import (
    SCALES,
    GradeScale,
    checked_scales,
    get_scale,
    grade_index,
    is_grade,
    list_scales,
    priors_of,
)

PLAIN = GradeScale(id="pass_fail", display_name="Pass or fail", description="", grades=("F", "P"))
BELOW = replace(PLAIN, id="below", allows_below_lowest=True, below_lowest_grade="0")
RELEASED = {
    "eng5_np_legacy_9_step": "d6e3a5c8880ce366a8636fccd3a7e989fa3d72fb3bd2c32938550654c41cf989",
    "eng5_np_national_9_step": "99c2a9aac3c327a632127b6b5baca284f780260b65861d33a621094b1bd28c45",
    "swedish_8_anchor": "a0fdd53fea3e69bf7f9e01eba4accabc934f014e20ab0e6a37231d691f1d9f56",
}


def digest_of(scale: GradeScale) -> str:
    """The sha256 of what a scale means; its name and description may still change."""
    meaning = {
        name: value
        for name, value in asdict(replace(scale, priors=None)).items()
        if name not in ("display_name", "description", "priors")
    }
    priors = [round(prior, 12) for prior in priors_of(scale.id).values()]
    return hashlib.sha256(orjson.dumps([sorted(meaning.items()), priors])).hexdigest()


@pytest.mark.parametrize(("scale_id", "digest"), RELEASED.items())
def test_a_released_scale_never_changes(scale_id: str, digest: str) -> None:
    assert digest_of(get_scale(scale_id)) == digest


def test_scales_are_listed_by_id() -> None:
    assert [scale.id for scale in list_scales()] == sorted(RELEASED)


def test_a_scale_cannot_be_changed() -> None:
    scale = get_scale("swedish_8_anchor")
    with pytest.raises(FrozenInstanceError):
        scale.grades = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        SCALES["swedish_8_anchor"] = scale  # type: ignore[index]
    with pytest.raises(TypeError):
        scale.priors["A"] = 1.0  # type: ignore[index]


def test_grades_go_from_low_to_high() -> None:
    grades = ("F", "E", "D", "D+", "C", "C+", "B", "A")
    assert [grade_index("swedish_8_anchor", grade) for grade in grades] == list(range(8))


@pytest.mark.parametrize(
    ("scale_id", "below"), [("eng5_np_legacy_9_step", "F"), ("eng5_np_national_9_step", "0")]
)
def test_the_grade_below_the_lowest_is_a_grade_and_has_index_minus_one(
    scale_id: str, below: str
) -> None:
    assert is_grade(scale_id, below)
    assert grade_index(scale_id, below) == -1
    assert grade_index(scale_id, get_scale(scale_id).grades[0]) == 0


def test_a_scale_has_only_its_own_grades() -> None:
    assert is_grade("swedish_8_anchor", "D+")
    assert not is_grade("swedish_8_anchor", "E+")
    assert not is_grade("swedish_8_anchor", "a")
    assert not is_grade("swedish_8_anchor", "")


def test_priors_are_by_grade() -> None:
    assert priors_of("swedish_8_anchor")["C"] == 0.25
    assert sum(priors_of("swedish_8_anchor").values()) == pytest.approx(1)
    assert set(priors_of("eng5_np_national_9_step").values()) == {1 / 9}


def test_an_unknown_scale_is_refused() -> None:
    for function in (get_scale, priors_of):
        with pytest.raises(Malformed, match="unknown grade scale; the scales are eng5_np_legacy"):
            function("Swedish_8_anchor")
    with pytest.raises(Malformed, match="unknown grade scale"):
        is_grade("", "A")


def test_an_unknown_grade_has_no_index() -> None:
    with pytest.raises(
        Malformed, match="not a grade of swedish_8_anchor; its grades are F, E, D, D"
    ):
        grade_index("swedish_8_anchor", "E-")


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "one grade": ({"grades": ("P",)}, "two or more"),
    "a grade twice": ({"grades": ("F", "P", "F")}, "all different"),
    "an empty grade": ({"grades": ("F", "")}, "not empty"),
    "a prior is missing": ({"priors": {"F": 1.0}}, "one prior for each grade"),
    "a prior too many": ({"priors": {"F": 0.5, "P": 0.5, "X": 0.0}}, "exactly one prior"),
    "a negative prior": ({"priors": {"F": -0.1, "P": 1.1}}, "between 0 and 1"),
    "priors of less than 1": ({"priors": {"F": 0.5, "P": 0.48}}, "do not add up"),
    "priors of more than 1": ({"priors": {"F": 0.5, "P": 0.52}}, "do not add up"),
    "below the lowest, unnamed": ({"allows_below_lowest": True}, "only if"),
    "below the lowest, empty": (
        {"allows_below_lowest": True, "below_lowest_grade": ""},
        "only if",
    ),
    "below the lowest, not allowed": ({"below_lowest_grade": "0"}, "only if"),
    "below the lowest, but one of the grades": (
        {"allows_below_lowest": True, "below_lowest_grade": "F"},
        "one of its grades",
    ),
}


@pytest.mark.parametrize(("changes", "problem"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_scale_that_contradicts_itself_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(Misconfigured, match=f"grade scale pass_fail: .*{problem}"):
        checked_scales(replace(PLAIN, **changes))


def test_two_scales_with_the_same_id_are_refused() -> None:
    with pytest.raises(Misconfigured, match="same id"):
        checked_scales(PLAIN, PLAIN)


def test_scales_without_contradictions_are_accepted() -> None:
    rounded = replace(PLAIN, id="rounded", priors={"F": 0.333, "P": 0.66})
    assert list(checked_scales(PLAIN, BELOW, rounded)) == ["pass_fail", "below", "rounded"]
