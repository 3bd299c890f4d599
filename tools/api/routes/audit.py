"""/audit/v1: what was known, when, and proof; for auditors, with the bodies of `cjstream audit … --json`."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from schemas.errors import Discrepancy
from tables.history.point_in_time import Moment
from tools.api.admission import AuditorRoute
from tools.api.dependencies import Dependencies, Deps
from tools.api.errors.problems import Problem
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
from tools.api.responses.openapi import FOUND, PAST, STREAMED, shows, streams
from tools.api.responses.replies import answered
from tools.api.services.json_lines import stream_lines
from tools.audit.scope.as_of import ScopeReport, change_document, changes, document_of
from tools.audit.scope.history import document_of as history_document

AUDIT = "/audit/v1"
routes = APIRouter(prefix=AUDIT, tags=["audit"], route_class=AuditorRoute)
OfScope = Annotated[ScopeKey, Path()]


@routes.get("/scopes/{scope}/as-of", **shows(documents.AsOf, PAST))
async def as_of(scope: OfScope, query: Annotated[AsOfQuery, Query()], parts: Deps) -> Response:
    """The context of an assignment or a course as it stood, its texts checked against their hashes."""
    found = await stood_at(parts, scope, query.at, "query/at", texts=query.texts)
    document = document_of(found)
    if query.diff is not None:
        before = await stood_at(parts, scope, query.diff, "query/diff", texts=query.texts)
        document["diff"] = [change_document(one) for one in changes(before, found)]
    return answered(documents.AsOf(**document))


@routes.get("/scopes/{scope}/history", **shows(documents.History, PAST))
async def history(scope: OfScope, query: Annotated[HistoryQuery, Query()], parts: Deps) -> Response:
    """Every version of every role, damaged uploads too, and what the log is known to have lost."""
    found, used = await parts.past.history(scope, with_uses=query.uses)
    return answered(documents.History(**history_document(found, used)))


@routes.get("/batches", **shows(documents.BatchDocument, FOUND))
async def batch(query: Annotated[BatchQuery, Query()], parts: Deps) -> Response:
    """Everything about one batch id: requests, waiting, outcomes, uploads, texts, verdict."""
    batch_id = query.batch_id
    found = await parts.past.batch(batch_id, texts=query.texts, everywhere=query.everywhere)
    if found is None:
        raise Problem(
            "resource-not-found",
            "no request of this batch id",
            resource_type="batch",
            resource_id=batch_id,
            deleted=False,
        )
    return answered(documents.BatchDocument(**found))


@routes.get("/replay", **streams("context", STREAMED))
async def replay(query: Annotated[ReplayQuery, Query()], parts: Deps) -> Response:
    """The upload topics folded again: a line for each scope, and last the summary. Cut off without it."""
    scopes = [query.scope] if query.scope else []
    return await in_range(parts.past.replay(query.since, query.until, scopes))


@routes.get("/verify", **streams("finding", STREAMED))
async def verify(query: Annotated[VerifyQuery, Query()], parts: Deps) -> Response:
    """Every outcome made again: a line for each finding, and last the summary. Cut off without it."""
    return await in_range(parts.past.verify(query.since, query.until, texts=query.texts))


async def in_range(lines: Iterator[bytes]) -> Response:
    """The lines as they come. Raises 422 for a range that the log does not have."""
    try:
        return await stream_lines(lines)
    except Discrepancy:
        raise invalid([fault_at("query", "unknown_position")]) from None


async def stood_at(
    parts: Dependencies, scope_key: str, moment: Moment, location: str, *, texts: bool
) -> ScopeReport:
    """A scope at a moment. Raises 422 for a moment that the log does not have."""
    try:
        [found] = await parts.past.as_of(scope_key, [moment], texts=texts)
    except Discrepancy:
        raise invalid([fault_at(location, "unknown_position")]) from None
    return found
