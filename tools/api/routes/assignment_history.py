"""/assignments as they were: at a moment, and every version."""

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
from tools.api.responses.openapi import READ, shows
from tools.api.responses.replies import answered
from tools.api.routes.audit import stood_at
from tools.audit.scope.as_of import ScopeReport
from tools.audit.scope.history import document_of as history_document
from tools.audit_json import gap_document

routes = APIRouter(prefix="/admin/v1", tags=["assignments"], route_class=AuditorRoute)
Shown = tuple[AssignmentContext | None, dict[str, str] | None]


@routes.get("/assignments/{assignment_id}/history", **shows(HistoryPage, READ))
async def get_history(
    assignment_id: Annotated[AssignmentId, Path()],
    query: Annotated[HistoryPaging, Query()],
    parts: Deps,
) -> Response:
    """Every version of every role, newest first; incomplete where the log is known to have lost some."""
    scope_key = f"assignment:{assignment_id}"
    found, _ = await parts.past.history(scope_key, with_uses=False)
    if not (found.versions or found.damaged or found.gaps):
        raise not_found("assignment", scope_key, deleted=False)
    whole = history_document(found, None)
    first = (query.page - 1) * query.page_size
    return answered(
        HistoryPage(
            items=whole["items"][first : first + query.page_size],
            total=len(whole["items"]),
            page=query.page,
            page_size=query.page_size,
            complete=whole["complete"],
            gaps=whole["gaps"],
            damaged=whole["damaged"],
        )
    )


async def as_it_stood(
    parts: Dependencies, scope_key: str, moment: Moment, *, with_texts: bool
) -> Shown:
    """The context as it stood, and the texts of its live roles where they are wanted.

    Raises 410 where it cannot be told, 422 for a moment that the log does not have.
    """
    found = await stood_at(parts, scope_key, moment, "query/as_of", texts=with_texts)
    _refuse_hidden(found)
    return found.state.context, _texts_of(found) if with_texts else None


def _refuse_hidden(found: ScopeReport) -> None:
    """Raise 410 where a gap hides what a role was."""
    if found.state.hidden:
        gaps = [gap_document(gap) for gap in found.state.hidden.values()]
        roles = ", ".join(sorted(found.state.hidden))
        raise Problem("history-compacted", f"cannot be told any more: {roles}", gaps=gaps)


def _texts_of(found: ScopeReport) -> dict[str, str]:
    """The texts by role; an erased one is left out. Raises ContentMissing and ContentCorrupt."""
    texts = dict[str, str]()
    for role, text in found.texts.items():
        component = live(found.state.context, role)
        if component is None or text.state == "erased":
            continue
        if text.text is None:
            amiss = ContentCorrupt if text.state == "damaged" else ContentMissing
            raise amiss(str(component.storage_id))
        texts[role] = text.text
    return texts
