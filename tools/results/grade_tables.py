"""The grades of a result document as rows and lines for a terminal. Pure."""

from typing import Any

from schemas.scales import SCALES

GRADED = ("essay_id", "grade", "probability", "sure", "90 %", "distribution")
ANCHORED = ("anchor_id", "grade", "without itself", "flags")
SHOWN_FROM = 0.005  # less is 0 %
Row = tuple[Any, ...]


def grading_facts(document: dict[str, Any]) -> list[tuple[str, str]]:
    """How the grades were made, or why there are none."""
    grading = document["grading"]
    if grading is None or grading["status"] == "not_asked":
        return []
    if grading["status"] == "none":
        return [("grades", f"none: {grading['reason']}")]
    flags = f" ({', '.join(grading['flags'])})" if grading["flags"] else ""
    anchors = len(document["anchors"])
    return [
        ("grades", f"by {anchors} anchors, error {grading['sigma']:.2f} logits{flags}"),
        ("thresholds", _thresholds(document["context"]["grade_scale"], grading["thresholds"])),
    ]


def _thresholds(scale_id: str, thresholds: list[float]) -> str:
    """Where each grade begins; the grades are unknown if the scale is one of a later release."""
    grades = SCALES[scale_id].grades[-len(thresholds) :] if scale_id in SCALES else ()
    if len(grades) != len(thresholds):
        return ", ".join(f"{threshold:.2f}" for threshold in thresholds)
    return ", ".join(
        f"{grade} from {threshold:.2f}" for grade, threshold in zip(grades, thresholds, strict=True)
    )


def grade_rows(essays: list[dict[str, Any]]) -> list[Row]:
    """The essays with their grades, the best score first."""
    return [
        (
            essay["essay_id"],
            essay["grade"] or essay["grade_reason"],
            "" if essay["grade_probability"] is None else f"{essay['grade_probability']:.2f}",
            essay["grade_label"] or "",
            " ".join(essay["set_90"]),
            distribution_of(essay),
        )
        for essay in sorted(essays, key=lambda essay: -(essay["theta"] or 0.0))
    ]


def anchor_rows(anchors: list[dict[str, Any]]) -> list[Row]:
    """The anchors with the probability of their grades, had they not been anchors."""
    return [
        (
            anchor["anchor_id"],
            anchor["grade"],
            "" if anchor["own_probability"] is None else f"{anchor['own_probability']:.3f}",
            ", ".join(anchor["flags"]),
        )
        for anchor in anchors
    ]


def grade_of(score: dict[str, Any]) -> str:
    """One line on the grade of an essay or anchor; empty if nothing is known of one."""
    if score.get("distribution"):
        grade = score["grade"] or score["grade_reason"]
        sure = f" ({score['grade_label']})" if score["grade_label"] else ""
        return f"grade {grade}{sure}: {distribution_of(score)}"
    if score.get("own_probability") is not None:
        return (
            f"anchor of grade {score['grade']}, by the other anchors with probability"
            f" {score['own_probability']:.3f}"
        )
    return ""


def distribution_of(essay: dict[str, Any]) -> str:
    """The grades that have a probability, low to high."""
    return ", ".join(
        f"{one['grade']} {100 * one['p']:.0f} %"
        for one in essay["distribution"]
        if one["p"] >= SHOWN_FROM
    )
