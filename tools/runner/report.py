"""The report of a run: one HTML file without scripts that loads nothing. Pure: it depends on the artefact alone."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from schemas.errors import Malformed
from schemas.scales import grade_index
from tools.runner import report_plots
from tools.runner.calibration import calibration_of

Document = Mapping[str, Any]
PLOTS = ("ranks", "grades", "waves", "calibration", "anchors")
DASH = "\u2013"
TEMPLATE = Path(__file__).with_name("report.html")
OUTCOMES = {
    "reliable": "The ranking is reliable: the lower bound of r² with the true order has reached its target.",
    "grades_certain": "The grades are as certain as was wanted.",
    "no_signal": "The judge shows no preference: it tosses coins, or the essays are all alike. There is no ranking.",
    "provider_refused": "The provider refused every call. There is no ranking.",
    "provider_failing": "Too many calls failed. There is no ranking.",
    "too_few_answers": "There are too few answers. There is no ranking.",
    "unreachable": "More comparisons would not have made the ranking reliable. It stands, but is less sure.",
    "budget": "The budget is used up. The ranking stands, but is less sure.",
    "deadline": "The time was up. The ranking stands, but is less sure.",
    "comparisons": "All allowed comparisons were made. The ranking stands, but is less sure.",
    "exhausted": "No pair was left to compare. The ranking stands, but is less sure.",
    "overrides_refused": "The batch was refused: the judge does not accept its overrides.",
    "texts_missing": "The batch was refused: texts are missing.",
    "texts_unreadable": "The batch was refused: texts cannot be read.",
    "texts_too_long": "The batch was refused: the two longest texts do not fit into the judge's context window.",
    "too_many_items": "The batch was refused: it has too many texts.",
    "judge_unknown": "The batch was refused: its judge is not known.",
    "price_unknown": "The batch was refused: a limit of cost needs a price, and none is known.",
    "essays_repeated": "The batch was refused: two essays have one id.",
    "anchors_named_as_essays": "The batch was refused: an anchor has the id of an essay.",
    "guests_refused": "The batch was refused: it has no assignment.",
}
FLAGS = {
    "order_effect": "The place matters: the text shown first wins clearly more or less often than the second.",
    "inconsistent": "Asked again in reversed order, the judge often changes its mind.",
    "circular": "There are more circles (A beats B, B beats C, C beats A) than the scores let expect.",
    "drift": "The first half of the run and the second differ.",
    "misfitting_wave": "In one wave the answers do not fit the scores.",
    "several_models": "More than one model answered.",
    "same_text": "Two essays have the same text: was a file handed in twice?",
    "misfit": "The comparisons of this essay do not fit the scores: read it yourself.",
    "few_grades": "The anchors have fewer than five different grades.",
    "weak_order": "The order of the anchors by score is only weakly that of their grades.",
    "anchor_misplaced": "The score of this anchor hardly fits its grade: check the grade.",
}
GRADES_REFUSED = {
    "no_anchors": "the assignment has no anchors",
    "anchors_of_another_scale": "its anchors belong to another grade scale",
    "too_few_anchors": "there are fewer than three anchors, or all have one grade",
    "anchors_disordered": "the scores of the anchors do not follow their grades",
    "unstable": "the thresholds of the grades are not determined well enough",
    "run_failed": "the run has no scores",
}


def report_html(artefact: Document) -> bytes:
    """The report of an artefact, UTF-8. The same artefact gives the same bytes."""
    from jinja2 import Environment, StrictUndefined  # importing it takes long

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "figure": _figure,
        "percent": _percent,
        "usd": _usd,
        "explained": lambda flag: FLAGS.get(flag, flag),
        "words": lambda name: "none" if name is None else str(name).replace("_", " "),
    }
    template = environment.from_string(TEMPLATE.read_text())
    page = template.render(a=artefact, **_values(artefact))
    return page.encode()


def _values(artefact: Document) -> dict[str, Any]:
    scores, grades = artefact["bt_summary"], artefact["grade_projections"]
    grades_of = {one["essay_id"]: one for one in grades["essays"]}
    essays = [
        {**grades_of[one["essay_id"]], **one}
        for one in sorted(scores["essays"], key=lambda one: (one["rank"] or 0, one["essay_id"]))
    ]
    ranked = [one for one in essays if one["theta"] is not None]
    graded = [one for one in ranked if one["distribution"]]
    anchors = sorted(
        (one for one in grades["anchors"] if one["theta"] is not None),
        key=lambda one: (_grade_order(grades["grade_scale"], one["grade"]), one["theta"]),
        reverse=True,
    )
    comparisons = artefact["llm_comparisons"]
    return {
        "headline": _headline(artefact),
        "essays": essays,
        "graded": graded,
        "grades": [one["grade"] for one in graded[0]["distribution"]] if graded else [],
        "anchors": anchors,
        "grades_refused": GRADES_REFUSED.get(grades["reason"], grades["reason"]),
        "calibration": calibration_of(comparisons),
        "first_share": _first_share(comparisons),
        "budget": artefact["judging"] and artefact["ledger"]["max_cost_usd"],
        "plots": _plots(artefact, ranked, graded, anchors),
        "is_small": len(ranked) <= report_plots.NAMED_MAX,
    }


def _plots(
    artefact: Document,
    ranked: Sequence[Document],
    graded: Sequence[Document],
    anchors: Sequence[Document],
) -> dict[str, Any]:
    """Each plot that there are figures for, as safe HTML."""
    from markupsafe import Markup

    scores, thresholds = artefact["bt_summary"], artefact["grade_projections"]["thresholds"]
    waves = scores["waves"]
    target = artefact["judging"]["policy"].get("target_bound") if artefact["judging"] else None
    is_priced = bool(waves) and waves[-1]["spent_usd"] is not None
    spent = [float(wave["spent_usd"]) for wave in waves] if is_priced else []
    plots = dict.fromkeys(PLOTS, "")
    if ranked:
        plots["ranks"] = report_plots.rank_plot(ranked, thresholds)
        plots["calibration"] = report_plots.calibration_plot(artefact["llm_comparisons"])
    if graded:
        grades = [one["grade"] for one in graded[0]["distribution"]]
        plots["grades"] = report_plots.grade_plot(graded, grades)
    if waves:
        plots["waves"] = report_plots.wave_plot(waves, target, spent)
    if anchors:
        plots["anchors"] = report_plots.anchor_plot(anchors, thresholds)
    return {name: Markup(plot) for name, plot in plots.items()}


def _headline(artefact: Document) -> str:
    if artefact["validation"]["runner_status"]["partial_data"]:
        return "The run has not ended: this is what was known when it was given up."
    reason = artefact["metadata"]["reason"]
    return OUTCOMES.get(reason, f"The run ended: {reason}.")


def _grade_order(scale: str | None, grade: str) -> int:
    """Where a grade stands in its scale."""
    try:
        return grade_index(scale or "", grade)
    except Malformed:  # a scale of another release
        return 0


def _first_share(comparisons: Sequence[Document]) -> float | None:
    answered = [one for one in comparisons if one["winner_id"] is not None]
    wins = sum(bool(one["winner_id"] == one["first_id"]) for one in answered)
    return wins / len(answered) if answered else None


def _figure(value: float | None, digits: int = 2) -> str:
    """A number with a real minus sign; a dash if there is none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", "\u2212")


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.0f} %"


def _usd(amount: str | None) -> str:
    return "unknown" if amount is None else f"${Decimal(amount):.4f}"
