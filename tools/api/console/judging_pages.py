"""The pages about judging: the results, and one with its ranks, reliability, grades and cost."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from tools.api.console.grade_plot import grade_plot
from tools.api.console.in_process_api import Refused
from tools.api.console.lists import PAGE_SIZE, read_list
from tools.api.console.pages import console_of, page, redirect, session_of, signed_in
from tools.results.documents import has_r2

RESULTS = "/results/v1/batches"
Z_90 = 1.6449  # standard errors of a normal distribution's 90 % interval, to each side

REASONS = {  # of a result: tables/judging/stopping_rule.py, tables/judging/next_step.py
    "reliable": "The ranks are as sure as was asked for.",
    "grades_certain": "The grades are certain; the ranks may be less sure.",
    "exhausted": "Every useful pair has been compared, but the ranks are not as sure as was asked for.",
    "comparisons": "The highest number of comparisons was reached before the ranks were sure.",
    "budget": "The budget was used up before the ranks were sure.",
    "deadline": "The time was over before the ranks were sure.",
    "unreachable": "More comparisons would not have made the ranks sure.",
    "no_signal": "The judge's answers look like chance, or the essays are all alike: there are no ranks.",
    "too_few_answers": "Too few comparisons were answered: there are no ranks.",
    "provider_failing": "Too many calls of the judge failed: there are no ranks.",
    "provider_refused": "The judge's provider refused the calls: there are no ranks.",
}
FLAGS = {  # of a whole result: tables/judging/diagnosis.py
    "order_effect": "the essay shown first wins noticeably more, or less, often than it should",
    "inconsistent": "the judge often changed its mind when it was asked the same question again",
    "circular": "there are more circles (A beats B, B beats C, C beats A) than the scores let expect",
    "drift": "the two halves of the run differ: the judge did not stay the same",
    "misfitting_wave": "the answers of at least one wave do not fit the scores",
    "several_models": "more than one model answered",
}


class Bar(NamedTuple):
    """One essay of the rank plot: its score and the ends of its 90 % interval, from 0 to 100 along the axis."""

    essay_id: str
    rank: int
    low: float
    middle: float
    high: float


@signed_in
async def show_results(request: Request) -> Response:
    """The runs in progress and the results, newest first, of all assignments or of one."""
    if batch_id := request.query_params.get("batch", "").strip():
        return redirect(request, f"/judging/{quote(batch_id, safe='')}")
    assignment_id = request.query_params.get("q", "").strip()
    found = await read_list(request, RESULTS, assignment_id=assignment_id or None)
    runs = await _open_runs(request, "assignment_id", assignment_id)
    return page(
        request,
        "results.html",
        **found.shown,
        q=assignment_id,
        runs=runs[:PAGE_SIZE],
        run_count=len(runs),
    )


@signed_in
async def show_result(request: Request) -> Response:
    """One batch: its result, or how far its judging is."""
    batch_id: str = request.path_params["batch_id"]
    api, caller = console_of(request).api, session_of(request).caller
    path = f"{RESULTS}/{quote(batch_id, safe='')}"
    answer = await api.call(request, caller, "GET", path)
    if answer.problem == "resource-not-found":
        status = await api.read(request, caller, f"{path}/status")
        runs = await _open_runs(request, "batch_id", batch_id)
        return page(
            request,
            "result_status.html",
            batch_id=batch_id,
            found=status.document,
            run=runs[-1] if runs else None,
        )
    if not answer.is_ok:
        raise Refused(answer)
    result = answer.document
    ranked = sorted(result["essays"], key=lambda essay: essay["rank"] or 0)
    return page(
        request,
        "result.html",
        batch_id=batch_id,
        result=result,
        essays=ranked,
        bars=rank_plot(ranked),
        grades=grade_plot(ranked),
        has_r2=has_r2(result),
        explanation=REASONS.get(result["reason"], ""),
        flags={flag: FLAGS.get(flag, "") for flag in result["flags"]},
    )


async def _open_runs(request: Request, field: str, wanted: str) -> list[dict[str, Any]]:
    """The runs in progress whose field has this value, or all of them if it is empty; the oldest first."""
    runs = await console_of(request).deps.results.open_runs()
    return [run for run in runs if not wanted or run[field] == wanted]


def rank_plot(essays: Iterable[Mapping[str, Any]]) -> list[Bar]:
    """The scored essays with their intervals, scaled so that the widest ends are 0 and 100."""
    scored = [essay for essay in essays if essay["theta"] is not None and essay["se"] is not None]
    ends = [essay["theta"] + side * Z_90 * essay["se"] for essay in scored for side in (-1, 1)]
    low, width = min(ends, default=0.0), (max(ends, default=1.0) - min(ends, default=0.0)) or 1.0

    def scaled(theta: float) -> float:
        return round(100 * (theta - low) / width, 2)

    return [
        Bar(
            essay["essay_id"],
            essay["rank"] or 0,
            scaled(essay["theta"] - Z_90 * essay["se"]),
            scaled(essay["theta"]),
            scaled(essay["theta"] + Z_90 * essay["se"]),
        )
        for essay in scored
    ]
