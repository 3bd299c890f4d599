"""The pages about judging: the results, and one with its ranks, reliability, grades and cost."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from tools.api.console.in_process_api import Refused
from tools.api.console.lists import read_list
from tools.api.console.pages import console_of, page, redirect, session_of, signed_in

RESULTS = "/results/v1/batches"
Z_90 = 1.6449  # standard errors of a normal distribution's 90 % interval, to each side


class Bar(NamedTuple):
    """One essay of the rank plot: its score and the ends of its 90 % interval, from 0 to 100 along the axis."""

    essay_id: str
    rank: int
    low: float
    middle: float
    high: float


@signed_in
async def show_results(request: Request) -> Response:
    """The results, newest first, of all assignments or of one; a batch id leads to its page."""
    if batch_id := request.query_params.get("batch", "").strip():
        return redirect(request, f"/judging/{quote(batch_id, safe='')}")
    assignment_id = request.query_params.get("q", "").strip()
    found = await read_list(request, RESULTS, assignment_id=assignment_id or None)
    return page(
        request,
        "results.html",
        **found.shown,
        q=assignment_id,
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
        return page(request, "result_status.html", batch_id=batch_id, found=status.document)
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
    )


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
