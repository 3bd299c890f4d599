"""/assignments in the past: at a moment, and every version."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from schemas.errors import ContentCorrupt, ContentMissing
from schemas.events import AssignmentContext
from tables.context import live
from tables.history.point_in_time import Moment
from tools.api.admission import AuditorRoute
from tools.api.dependencies import Dependencies, Deps
from tools.api.errors.problems import Problem
from tools.api.requests.field_types import AssignmentId
from tools.api.requests.request_models import HistoryPaging
from tools.api.responses.audit_models import HistoryPage
from tools.api.responses.error_mapping import not_found
from tools.api.responses.openapi import READ, returns
from tools.api.responses.replies import ok_response
from tools.api.routes.audit import report_at
from tools.audit.scope.as_of import ScopeReport
from tools.audit.scope.history import document_of as history_document
from tools.audit_json import gap_document

routes = APIRouter(prefix="/admin/v1", tags=["assignments"], route_class=AuditorRoute)
ContextAndTexts = tuple[AssignmentContext | None, dict[str, str] | None]


@routes.get("/assignments/{assignment_id}/history", **returns(HistoryPage, READ))
async def get_history(
    assignment_id: Annotated[AssignmentId, Path()],
    query: Annotated[HistoryPaging, Query()],
    deps: Deps,
) -> Response:
    """Every version of every role, newest first; `complete` is false if the log has lost some of them."""
    scope_key = f"assignment:{assignment_id}"
    history, _ = await deps.audit.history(scope_key, with_uses=False)
    if not (history.versions or history.damaged or history.gaps):
        raise not_found("assignment", scope_key, deleted=False)
    document = history_document(history, None)
    first = (query.page - 1) * query.page_size
    return ok_response(
        HistoryPage(
            items=document["items"][first : first + query.page_size],
            total=len(document["items"]),
            page=query.page,
            page_size=query.page_size,
            complete=document["complete"],
            gaps=document["gaps"],
            damaged=document["damaged"],
        )
    )


async def context_at(
    deps: Dependencies, scope_key: str, moment: Moment, *, with_texts: bool
) -> ContextAndTexts:
    """The context at a moment and, with_texts, the texts of its live roles.

    Raises 410 if the log no longer shows the state, 422 for a moment that the log does not have.
    """
    report = await report_at(deps, scope_key, moment, "query/as_of", texts=with_texts)
    _check_nothing_hidden(report)
    return report.state.context, _texts_of(report) if with_texts else None


def _check_nothing_hidden(report: ScopeReport) -> None:
    """Raise 410 if a gap hides the state of a role."""
    if report.state.hidden:
        gaps = [gap_document(gap) for gap in report.state.hidden.values()]
        roles = ", ".join(sorted(report.state.hidden))
        raise Problem(
            "history-compacted", f"the log no longer shows the state of: {roles}", gaps=gaps
        )


def _texts_of(report: ScopeReport) -> dict[str, str]:
    """The texts by role; an erased text is left out. Raises ContentMissing and ContentCorrupt."""
    texts = dict[str, str]()
    for role, text in report.texts.items():
        component = live(report.state.context, role)
        if component is None or text.state == "erased":
            continue
        if text.text is None:
            error_class = ContentCorrupt if text.state == "damaged" else ContentMissing
            raise error_class(str(component.storage_id))
        texts[role] = text.text
    return texts
