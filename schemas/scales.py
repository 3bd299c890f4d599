"""Grade scales: the grades that a batch may get, from low to high. A released scale never changes.

Every function raises Malformed for an unknown scale or grade; there is no default scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from schemas.errors import Malformed, Misconfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeScale:
    """One grade scale; priors are the share of each grade in a population, None if all shares are equal."""

    id: str
    display_name: str
    description: str
    grades: tuple[str, ...]
    priors: Mapping[str, float] | None = None
    allows_below_lowest: bool = False
    below_lowest_grade: str | None = None


def checked_scales(*scales: GradeScale) -> Mapping[str, GradeScale]:
    """The scales by id. Raises Misconfigured, naming the scale, if one contradicts itself."""
    for scale in scales:
        if problem := _problem_with(scale):
            raise Misconfigured(f"grade scale {scale.id}: {problem}")
    by_id = {scale.id: scale for scale in scales}
    if len(by_id) != len(scales):
        raise Misconfigured("two grade scales have the same id")
    return MappingProxyType(by_id)


def _problem_with(scale: GradeScale) -> str | None:
    grades, priors = scale.grades, scale.priors
    if len(grades) < 2 or len(set(grades)) != len(grades) or not all(grades):
        return "it needs two or more grades, all different and not empty"
    if priors is not None and priors.keys() != set(grades):
        return "it needs exactly one prior for each grade"
    if priors is not None and not all(0 <= prior <= 1 for prior in priors.values()):
        return "a prior is not between 0 and 1"
    if priors is not None and not 0.99 <= sum(priors.values()) <= 1.01:
        return "its priors do not add up to 1"
    if scale.allows_below_lowest != bool(scale.below_lowest_grade):
        return "it needs a grade below the lowest if, and only if, that is allowed"
    if scale.below_lowest_grade in grades:
        return "its grade below the lowest is one of its grades"
    return None


def _priors(grades: tuple[str, ...], *shares: float) -> Mapping[str, float]:
    return MappingProxyType(dict(zip(grades, shares, strict=True)))


SWEDISH = ("F", "E", "D", "D+", "C", "C+", "B", "A")
LEGACY = ("F+", "E-", "E+", "D-", "D+", "C-", "C+", "B", "A")
NATIONAL = ("1", "2", "3", "4", "5", "6", "7", "8", "9")

SCALES = checked_scales(
    GradeScale(
        id="swedish_8_anchor",
        display_name="Swedish A-F, eight anchor grades",
        description="The Swedish grades F to A, with D+ and C+ between.",
        grades=SWEDISH,
        priors=_priors(SWEDISH, 0.02, 0.08, 0.15, 0.20, 0.25, 0.15, 0.10, 0.05),
    ),
    GradeScale(
        id="eng5_np_legacy_9_step",
        display_name="English 5 national test, legacy nine steps",
        description="The nine steps F+ to A of the older English 5 national test; F lies below them.",
        grades=LEGACY,
        priors=_priors(LEGACY, *[1 / 9] * 9),
        allows_below_lowest=True,
        below_lowest_grade="F",
    ),
    GradeScale(
        id="eng5_np_national_9_step",
        display_name="English 5 national test, steps 1-9",
        description="The steps 1 to 9 of the English 5 national test; 0 lies below them.",
        grades=NATIONAL,
        priors=_priors(NATIONAL, *[1 / 9] * 9),
        allows_below_lowest=True,
        below_lowest_grade="0",
    ),
)


def list_scales() -> tuple[GradeScale, ...]:
    """Every scale, by id."""
    return tuple(SCALES[scale_id] for scale_id in sorted(SCALES))


def get_scale(scale_id: str) -> GradeScale:
    """The scale with this id."""
    scale = SCALES.get(scale_id)
    if scale is None:
        raise Malformed(f"unknown grade scale; the scales are {', '.join(sorted(SCALES))}")
    return scale


def is_grade(scale_id: str, grade: str) -> bool:
    """Whether the scale has this grade; the grade below the lowest counts, too."""
    scale = get_scale(scale_id)
    return grade in scale.grades or (
        scale.allows_below_lowest and grade == scale.below_lowest_grade
    )


def grade_index(scale_id: str, grade: str) -> int:
    """The index of the grade, 0 for the lowest; -1 for the grade below the lowest."""
    scale = get_scale(scale_id)
    if not is_grade(scale_id, grade):
        raise Malformed(f"not a grade of {scale.id}; its grades are {', '.join(scale.grades)}")
    return -1 if grade == scale.below_lowest_grade else scale.grades.index(grade)


def priors_of(scale_id: str) -> Mapping[str, float]:
    """The share of each grade in a population; equal shares if the scale has no priors."""
    scale = get_scale(scale_id)
    if scale.priors is None:
        return dict.fromkeys(scale.grades, 1 / len(scale.grades))
    return scale.priors
