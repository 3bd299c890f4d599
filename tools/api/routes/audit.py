"""/audit/v1: past states, histories and proofs for auditors; the bodies are those of `cjstream audit … --json`."""

from collections.abc import AsyncIterator, Generator
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from schemas.errors import Discrepancy
from tables.history.point_in_time import Moment
from tools.api.admission import AuditorRoute
from tools.api.dependencies import Dependencies, Deps
from tools.api.errors.problems import not_found
from tools.api.errors.validation_errors import fault_at, invalid
from tools.api.requests.field_types import ScopeKey
from tools.api.requests.request_models import (
    AsOfQuery,
    BatchQuery,
    HistoryQuery,
    ReplayQuery,
    VerifyQuery,
)
from tools.api.responses import audit_models as documents
from tools.api.responses.openapi import (
    LINES,
    READ,
    READABLE,
    STREAMED,
    returns,
    returns_lines,
)
from tools.api.responses.presenters import ok_response
from tools.api.services.line_stream import stream_lines
from tools.audit.scope.as_of import ScopeReport, changes, document_of
from tools.audit.scope.history import document_of as history_document

AUDIT = "/audit/v1"
routes = APIRouter(prefix=AUDIT, tags=["audit"], route_class=AuditorRoute)
OfScope = Annotated[ScopeKey, Path()]


@routes.get("/scopes/{scope}/as-of", **returns(documents.AsOf, READABLE))
async def as_of(scope: OfScope, query: Annotated[AsOfQuery, Query()], deps: Deps) -> Response:
    """The context of an assignment or a course at a moment, its texts checked against their hashes."""
    report = await report_at(deps, scope, query.at, "query/at", texts=query.texts)
    document = document_of(report)
    if query.diff is not None:
        before = await report_at(deps, scope, query.diff, "query/diff", texts=query.texts)
        document["diff"] = list(changes(before, report))
    return ok_response(documents.AsOf(**document))


@routes.get("/scopes/{scope}/history", **returns(documents.History, READABLE))
async def history(scope: OfScope, query: Annotated[HistoryQuery, Query()], deps: Deps) -> Response:
    """One page of the versions of every role, damaged uploads included, and the versions that the log has lost."""
    scope_history, upload_uses = await deps.audit.history(scope, with_uses=query.uses)
    document = history_document(
        scope_history, upload_uses, page=query.page, page_size=query.page_size
    )
    return ok_response(documents.History(**document))


@routes.get("/batches", **returns(documents.BatchDocument, READ))
async def batch(query: Annotated[BatchQuery, Query()], deps: Deps) -> Response:
    """Everything about one batch id: requests, time parked, outcomes, uploads, texts, verification."""
    batch_id = query.batch_id
    document = await deps.audit.batch(batch_id, texts=query.texts, everywhere=query.everywhere)
    if document is None:
        raise not_found("batch", batch_id)
    return ok_response(documents.BatchDocument(**document))


@routes.get("/replay", **returns_lines("context", STREAMED))
async def replay(query: Annotated[ReplayQuery, Query()], request: Request, deps: Deps) -> Response:
    """Fold the upload topics again: one line per scope, then the summary; without it the response is incomplete."""
    scopes = [query.scope] if query.scope else []
    return await _stream(request, deps, deps.audit.replay(query.since, query.until, scopes))


@routes.get("/verify", **returns_lines("finding", STREAMED))
async def verify(query: Annotated[VerifyQuery, Query()], request: Request, deps: Deps) -> Response:
    """Compute every outcome again: one line per finding, then the summary; without it the response is incomplete."""
    return await _stream(
        request, deps, deps.audit.verify(query.since, query.until, texts=query.texts)
    )


async def _stream(
    request: Request, deps: Dependencies, lines: Generator[bytes, None, None]
) -> Response:
    """The lines as a response. Raises 422 for a range that the log does not have, and 429."""
    slot = ExitStack()
    slot.enter_context(deps.streams.one(request.state.actor))
    chunks = stream_lines(lines, deps.turns, at_end=slot.close)
    request.state.until_end.push_async_callback(chunks.aclose)
    try:
        first = await _first_line(request, chunks)  # its error can still become a problem
    except Discrepancy:
        raise invalid([fault_at("query", "unknown_position")]) from None
    unbuffered = {"X-Accel-Buffering": "no"}  # nginx would collect the lines
    return StreamingResponse(_joined(first, chunks), media_type=LINES, headers=unbuffered)


async def _first_line(request: Request, chunks: AsyncIterator[bytes]) -> bytes:
    """The first chunk that is not empty. Raises ClientDisconnect if the client does not wait for it."""
    async for chunk in chunks:
        if chunk:
            return chunk
        if await request.is_disconnected():
            raise ClientDisconnect
    return b""


async def _joined(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in chunks:
        if chunk:
            yield chunk


async def report_at(
    deps: Dependencies, scope_key: str, moment: Moment, location: str, *, texts: bool
) -> ScopeReport:
    """The scope at a moment. Raises 422 for a moment that the log does not have."""
    try:
        return await deps.audit.as_of(scope_key, moment, texts=texts)
    except Discrepancy:
        raise invalid([fault_at(location, "unknown_position")]) from None
