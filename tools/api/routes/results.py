"""/results/v1: results of judging, how far a batch is, and what a result rests on."""

from collections.abc import Awaitable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Response

from schemas.errors import Discrepancy
from tools.api.admission import ReaderRoute
from tools.api.dependencies import Deps
from tools.api.errors.problems import Problem, not_found
from tools.api.requests.field_types import BatchId
from tools.api.requests.request_models import NoQuery, ResultsQuery, RunPaging, RunQuery
from tools.api.responses import result_models as documents
from tools.api.responses.openapi import READ_LOG, READ_RUN, STREAMED, returns
from tools.api.responses.presenters import ok_response
from tools.api.responses.response_models import Page

RESULTS = "/results/v1"
routes = APIRouter(prefix=RESULTS, tags=["results"], route_class=ReaderRoute)
OfBatch = Annotated[BatchId, Path()]
T = TypeVar("T")


@routes.get("/batches", **returns(documents.ResultPage, STREAMED))
async def list_results(query: Annotated[ResultsQuery, Query()], deps: Deps) -> Response:
    """The results of all batches, or of one assignment, newest first."""
    start = (query.page - 1) * query.page_size
    items, total = await deps.results.page(query.assignment_id, start, query.page_size)
    return _page(documents.ResultPage, {"items": items, "total": total}, query)


@routes.get("/batches/{batch_id}", **returns(documents.Result, READ_LOG))
async def get_result(
    batch_id: OfBatch, query: Annotated[RunQuery, Query()], deps: Deps
) -> Response:
    """The newest result of a batch, or that of a run."""
    document = await deps.results.result(batch_id, query.run_id)
    if document is None:
        raise not_found("result", batch_id)
    return ok_response(documents.Result(**document))


@routes.get("/batches/{batch_id}/status", **returns(documents.BatchStatus, STREAMED))
async def get_status(batch_id: OfBatch, _: NoQuery, deps: Deps) -> Response:
    """Whether a batch is unresolved, being judged or judged; unknown: nothing of this is known yet."""
    return ok_response(documents.BatchStatus(**await deps.results.status(batch_id)))


@routes.get("/batches/{batch_id}/comparisons", **returns(documents.ComparisonPage, READ_RUN))
async def get_comparisons(
    batch_id: OfBatch, query: Annotated[RunPaging, Query()], deps: Deps
) -> Response:
    """The comparisons of a batch's newest run, or of the run with this id, by number."""
    start = (query.page - 1) * query.page_size
    found = deps.results.comparisons(batch_id, query.run_id, start, query.page_size)
    return _page(documents.ComparisonPage, await _of_run(batch_id, found), query)


@routes.get("/batches/{batch_id}/ledger", **returns(documents.LedgerPage, READ_RUN))
async def get_ledger(
    batch_id: OfBatch, query: Annotated[RunPaging, Query()], deps: Deps
) -> Response:
    """What the run of a batch has cost, and each of its calls."""
    start = (query.page - 1) * query.page_size
    found = deps.results.ledger(batch_id, query.run_id, start, query.page_size)
    return _page(documents.LedgerPage, await _of_run(batch_id, found), query)


async def _of_run(batch_id: str, found: Awaitable[T | None]) -> T:
    """What was found. Raises 404 if the batch has no run, as a refused one, and 410 if the log has lost it."""
    try:
        document = await found
    except Discrepancy as fault:
        raise Problem(
            "history-compacted", f"the run's records are not complete in the log: {fault}"
        ) from None
    if document is None:
        raise not_found("run", batch_id)
    return document


def _page(
    model: type[Page], document: Mapping[str, Any], query: ResultsQuery | RunPaging
) -> Response:
    return ok_response(model(**document, page=query.page, page_size=query.page_size))
