"""/assignments and /grade-scales: complete assignments, their readiness, and the grade scales."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from schemas.events import ROLES, AssignmentContext
from schemas.scales import list_scales
from tables.commands import ASSIGNMENT, NewInstructions, TextRef, WriteCommand
from tables.context import is_live, live
from tables.etags import assignment_etag_of
from tools.api.admission import AdmittedRoute, AuditorRoute, ReaderRoute, WriteContextDep
from tools.api.dependencies import Dependencies, Deps
from tools.api.errors.validation_errors import fault_at, invalid
from tools.api.requests.field_types import AssignmentId
from tools.api.requests.request_models import (
    AssignmentQuery,
    Common,
    ContentCheck,
    NewAssignment,
)
from tools.api.responses import response_models
from tools.api.responses.error_mapping import not_found
from tools.api.responses.openapi import READ_AS_OF, READINESS, STATIC, WRITTEN, returns
from tools.api.responses.presenters import assignment_fields, readiness_of, scale_of
from tools.api.responses.replies import ok_response, write_response
from tools.api.routes.assignment_history import ContextAndTexts, context_at
from tools.api.routes.write_steps import outcome_fields, write
from tools.api.services.text_service import ref_of

ADMIN = "/admin/v1"
for_admins = APIRouter(prefix=ADMIN, tags=["assignments"], route_class=AdmittedRoute)
for_auditors = APIRouter(prefix=ADMIN, tags=["assignments"], route_class=AuditorRoute)
for_readers = APIRouter(prefix=ADMIN, tags=["assignments"], route_class=ReaderRoute)
OfAssignment = Annotated[AssignmentId, Path()]
NoQuery = Annotated[Common, Query()]


@for_admins.post("/assignments", **returns(response_models.AssignmentWritten, WRITTEN))
async def upsert_assignment(
    body: NewAssignment, _: NoQuery, deps: Deps, write_context: WriteContextDep
) -> Response:
    """Create or replace the instructions and, if the body has them, prompt and rubric: all of them or none."""
    optional = {"student_prompt": body.prompt_text, "judge_rubric": body.rubric_text}
    texts = {role: text for role, text in optional.items() if text}
    stored = await _stored_refs(deps, body, texts)
    refs = {**stored, **{role: ref_of(text) for role, text in texts.items()}}
    command = WriteCommand(
        assignment_id=body.assignment_id,
        course_id=None,
        instructions=NewInstructions(
            text=ref_of(body.instructions_text),
            grade_scale=body.grade_scale,
            context_origin=body.context_origin or None,
        ),
        student_prompt=refs.get("student_prompt"),
        judge_rubric=refs.get("judge_rubric"),
        condition_on=ASSIGNMENT,
    )
    new_texts = [body.instructions_text, *texts.values()]
    result = await write(deps, write_context, command, new_texts, stored.values())
    assert result.context is not None
    live_texts = await _live_texts(deps, result.context)
    fields = assignment_fields(result.context, live_texts, deps.log.policy)
    document = response_models.AssignmentWritten(**fields, **outcome_fields(result, several=True))
    return write_response(document, result, etag=assignment_etag_of(result.context))


@for_auditors.get("/assignments/{assignment_id}", **returns(response_models.Assignment, READ_AS_OF))
async def get_assignment(
    assignment_id: OfAssignment, query: Annotated[AssignmentQuery, Query()], deps: Deps
) -> Response:
    """All roles of an assignment, now or at a moment; 404 if none of them is live then."""
    scope_key = f"assignment:{assignment_id}"
    if query.as_of is None:
        context, texts = await _context_now(deps, scope_key, with_texts=query.texts)
    else:
        context, texts = await context_at(deps, scope_key, query.as_of, with_texts=query.texts)
    if context is None or not any(is_live(context, role) for role in ROLES):
        raise not_found("assignment", scope_key, deleted=context is not None)
    fields = assignment_fields(context, texts, deps.log.policy)
    return ok_response(response_models.Assignment(**fields), etag=assignment_etag_of(context))


@for_readers.get(
    "/assignments/{assignment_id}/readiness", **returns(response_models.Readiness, READINESS)
)
async def get_readiness(
    assignment_id: OfAssignment, query: Annotated[ContentCheck, Query()], deps: Deps
) -> Response:
    """Whether a request for this assignment would be prepared; an unknown assignment is reported as not ready."""
    scope_key = f"assignment:{assignment_id}"
    context = (await deps.log.read(scope_key)).context
    unreadable = await _unreadable_texts(deps, context) if query.check_content else []
    return ok_response(readiness_of(context, scope_key, deps.log.policy, *unreadable))


@for_readers.get("/grade-scales", **returns(response_models.Scales, STATIC))
async def list_grade_scales(_: NoQuery) -> Response:
    """All grade scales."""
    return ok_response(response_models.Scales(items=[scale_of(scale) for scale in list_scales()]))


async def _context_now(deps: Dependencies, scope_key: str, *, with_texts: bool) -> ContextAndTexts:
    """The current context and, with_texts, the texts of its live roles."""
    context = (await deps.log.read(scope_key)).context
    return context, await _live_texts(deps, context) if with_texts else None


async def _live_texts(deps: Dependencies, context: AssignmentContext | None) -> dict[str, str]:
    texts = await deps.texts.texts_of(live(context, role) for role in ROLES)
    return {role: text for role, text in zip(ROLES, texts, strict=True) if text is not None}


async def _stored_refs(
    deps: Dependencies, body: NewAssignment, texts: dict[str, str]
) -> dict[str, TextRef]:
    """References to the stored texts that the body names, by role.

    Raises 422 if the body has a text and a storage id for the same role and they do not belong together.
    """
    optional = {
        "student_prompt": body.student_prompt_storage_id,
        "judge_rubric": body.judge_rubric_storage_id,
    }
    ids = {role: storage_id for role, storage_id in optional.items() if storage_id}
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
    return [
        f"{role}_content"
        for role in ROLES
        if (component := live(context, role)) and not await deps.texts.is_readable(component)
    ]
