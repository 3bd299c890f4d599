"""/assignments and /grade-scales: complete assignments, now and in the past, their readiness, and the grade scales."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from schemas.events import ROLES, AssignmentContext
from schemas.scales import list_scales
from tables.commands import ASSIGNMENT, NewInstructions, TextRef
from tables.context import is_live
from tables.etags import assignment_etag_of
from tools.api.admission import AdmittedRoute, AuditorRoute, ReaderRoute, WriteDep
from tools.api.dependencies import Dependencies, Deps
from tools.api.errors.problems import Problem, role_not_found
from tools.api.errors.validation_errors import fault_at, invalid
from tools.api.requests import request_models as requests
from tools.api.requests.field_types import AssignmentId
from tools.api.responses import presenters
from tools.api.responses import response_models as models
from tools.api.responses.audit_models import HistoryPage
from tools.api.responses.openapi import (
    GATED,
    READ,
    READ_AS_OF,
    READABLE,
    STATIC,
    WRITTEN,
    returns,
)
from tools.api.routes.audit import report_at
from tools.api.routes.write_steps import execute, write_command
from tools.api.services.text_service import ref_of
from tools.audit.scope.as_of import ScopeReport
from tools.audit.scope.history import document_of as history_document
from tools.audit.stored_text import TextState
from tools.audit_json import gap_document

ADMIN = "/admin/v1"
for_admins = APIRouter(prefix=ADMIN, tags=["assignments"], route_class=AdmittedRoute)
for_auditors = APIRouter(prefix=ADMIN, tags=["assignments"], route_class=AuditorRoute)
for_readers = APIRouter(prefix=ADMIN, tags=["assignments"], route_class=ReaderRoute)
OfAssignment = Annotated[AssignmentId, Path()]


@for_admins.post("/assignments", **returns(models.AssignmentWritten, WRITTEN))
async def upsert_assignment(body: requests.NewAssignment, write: WriteDep) -> Response:
    """Create or replace the instructions and, if the body has them, prompt and rubric: all of them or none."""
    deps = write.deps
    optional = {"student_prompt": body.prompt_text, "judge_rubric": body.rubric_text}
    texts = {role: text for role, text in optional.items() if text}
    stored = await _stored_refs(deps, body, texts)
    command = write_command(
        f"assignment:{body.assignment_id}",
        ASSIGNMENT,
        instructions=NewInstructions(
            text=ref_of(body.instructions_text),
            grade_scale=body.grade_scale,
            context_origin=body.context_origin or None,
        ),
        **stored,
        **{role: ref_of(text) for role, text in texts.items()},
    )
    new_texts = [body.instructions_text, *texts.values()]
    result = await execute(write, command, new_texts, stored.values())
    assert result.context is not None
    fields = presenters.assignment_fields(
        result.context, await deps.texts.states_by_role(result.context), deps.log.policy
    )
    etag = assignment_etag_of(result.context)
    return presenters.write_response(models.AssignmentWritten, fields, result, etag=etag)


@for_auditors.get("/assignments/{assignment_id}", **returns(models.Assignment, READ_AS_OF))
async def get_assignment(
    assignment_id: OfAssignment, query: Annotated[requests.AssignmentQuery, Query()], deps: Deps
) -> Response:
    """All roles of an assignment, now or at a moment; 404 if none is live then. A text without bytes is marked."""
    scope_key = f"assignment:{assignment_id}"
    texts: Mapping[str, TextState] | None = None
    if query.as_of is None:
        context = await deps.log.read(scope_key)
        if query.texts:
            texts = await deps.texts.states_by_role(context)
    else:
        report = await report_at(deps, scope_key, query.as_of, "query/as_of", texts=query.texts)
        _check_nothing_hidden(report)
        context = report.state.context
        texts = report.texts if query.texts else None
    if context is None or not any(is_live(context, role) for role in ROLES):
        raise role_not_found("assignment", scope_key, deleted=context is not None)
    document = presenters.filled(
        models.Assignment, presenters.assignment_fields(context, texts, deps.log.policy)
    )
    return presenters.ok_response(document, etag=assignment_etag_of(context))


@for_auditors.get("/assignments/{assignment_id}/history", **returns(HistoryPage, READ))
async def get_history(
    assignment_id: OfAssignment, query: Annotated[requests.Paging, Query()], deps: Deps
) -> Response:
    """One page of the versions of every role, newest first; `complete` is false if the log has lost some of them."""
    scope_key = f"assignment:{assignment_id}"
    history, _ = await deps.audit.history(scope_key, with_uses=False)
    if not (history.versions or history.damaged or history.gaps):
        raise role_not_found("assignment", scope_key, deleted=False)
    document = history_document(history, None, page=query.page, page_size=query.page_size)
    return presenters.ok_response(presenters.filled(HistoryPage, document))


@for_readers.get("/assignments/{assignment_id}/readiness", **returns(models.Readiness, READABLE))
async def get_readiness(
    assignment_id: OfAssignment, query: Annotated[requests.ContentCheck, Query()], deps: Deps
) -> Response:
    """Whether a request for this assignment would be prepared; an unknown assignment is reported as not ready."""
    scope_key = f"assignment:{assignment_id}"
    context = await deps.log.read(scope_key)
    unreadable = await _unreadable_texts(deps, context) if query.check_content else []
    return presenters.ok_response(
        presenters.readiness_of(context, scope_key, deps.log.policy, *unreadable)
    )


@for_readers.get("/assignments/{assignment_id}/gate", **returns(models.Readiness, GATED))
async def get_gate(
    assignment_id: OfAssignment, query: Annotated[requests.GateQuery, Query()], deps: Deps
) -> Response:
    """The readiness of an assignment if a pipeline may send requests for it; else 409 with what is missing."""
    scope_key = f"assignment:{assignment_id}"
    readiness = presenters.readiness_of(await deps.log.read(scope_key), scope_key, deps.log.policy)
    if readiness.missing:
        deps.metrics.count_blocked(query.pipeline)
        raise Problem(
            "prompt-prerequisite",
            f"the assignment has no live {', '.join(readiness.missing)}",
            assignment_id=assignment_id,
            pipeline=query.pipeline,
            missing=readiness.missing,
            required=readiness.required,
            tag=readiness.tag,
        )
    return presenters.ok_response(readiness)


@for_readers.get("/grade-scales", **returns(models.Scales, STATIC))
async def list_grade_scales(_: requests.NoQuery) -> Response:
    """All grade scales."""
    return presenters.ok_response(
        models.Scales(items=[models.Scale.model_validate(scale) for scale in list_scales()])
    )


async def _stored_refs(
    deps: Dependencies, body: requests.NewAssignment, texts: dict[str, str]
) -> dict[str, TextRef]:
    """References to the stored texts that the body names, by role.

    Raises 422 if the body has a text and a storage id for the same role and they do not belong together.
    """
    ids = body.storage_ids
    faults = [
        fault_at(f"body/{role}_storage_id", "invalid_content")
        for role, storage_id in ids.items()
        if role in texts and ref_of(texts[role]).storage_id != storage_id
    ]
    if faults:
        raise invalid(faults)
    return await deps.texts.refs_of({role: ids[role] for role in ids if role not in texts})


async def _unreadable_texts(deps: Dependencies, context: AssignmentContext | None) -> list[str]:
    """`<role>_content` for each live role whose text is missing or damaged in the store."""
    states = await deps.texts.states_by_role(context)
    return [f"{role}_content" for role, found in states.items() if found.text is None]


def _check_nothing_hidden(report: ScopeReport) -> None:
    """Raise 410 if a gap hides the state of a role."""
    if report.state.hidden:
        gaps = [gap_document(gap) for gap in report.state.hidden.values()]
        roles = ", ".join(sorted(report.state.hidden))
        raise Problem(
            "history-compacted", f"the log no longer shows the state of: {roles}", gaps=gaps
        )
