"""/assignments and /grade-scales: an assignment as a whole, whether it is ready, and how it can be graded."""

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
from tools.api.responses.openapi import CONSTANT, READINESS, STOOD, WRITTEN, shows
from tools.api.responses.presenters import assignment_of, readiness_of, scale_of
from tools.api.responses.replies import answered, wrote
from tools.api.routes.assignment_history import Shown, as_it_stood
from tools.api.routes.write_steps import outcome_of, write
from tools.api.services.text_service import ref_of

ADMIN = "/admin/v1"
for_admins = APIRouter(prefix=ADMIN, tags=["assignments"], route_class=AdmittedRoute)
for_auditors = APIRouter(prefix=ADMIN, tags=["assignments"], route_class=AuditorRoute)
for_readers = APIRouter(prefix=ADMIN, tags=["assignments"], route_class=ReaderRoute)
OfAssignment = Annotated[AssignmentId, Path()]
NoQuery = Annotated[Common, Query()]


@for_admins.post("/assignments", **shows(response_models.AssignmentWritten, WRITTEN))
async def upsert_assignment(
    body: NewAssignment, _: NoQuery, parts: Deps, call: WriteContextDep
) -> Response:
    """Create or replace instructions and, where they are given, prompt and rubric: all or nothing."""
    given = {"student_prompt": body.prompt_text, "judge_rubric": body.rubric_text}
    texts = {role: text for role, text in given.items() if text}
    named = await _named(parts, body, texts)
    refs = {**named, **{role: ref_of(text) for role, text in texts.items()}}
    change = WriteCommand(
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
    new = [body.instructions_text, *texts.values()]
    written = await write(parts, call, change, new, named.values())
    assert written.context is not None
    texts_now = await _live_texts(parts, written.context)
    shown = assignment_of(written.context, texts_now, parts.log.policy)
    document = response_models.AssignmentWritten(**shown, **outcome_of(written, several=True))
    return wrote(document, written, tag=assignment_etag_of(written.context))


@for_auditors.get("/assignments/{assignment_id}", **shows(response_models.Assignment, STOOD))
async def get_assignment(
    assignment_id: OfAssignment, query: Annotated[AssignmentQuery, Query()], parts: Deps
) -> Response:
    """Everything that is known of an assignment of which anything is live, or was at a moment."""
    scope_key = f"assignment:{assignment_id}"
    if query.as_of is None:
        context, texts = await _now(parts, scope_key, with_texts=query.texts)
    else:
        context, texts = await as_it_stood(parts, scope_key, query.as_of, with_texts=query.texts)
    if context is None or not any(is_live(context, role) for role in ROLES):
        raise not_found("assignment", scope_key, deleted=context is not None)
    shown = assignment_of(context, texts, parts.log.policy)
    return answered(response_models.Assignment(**shown), tag=assignment_etag_of(context))


@for_readers.get(
    "/assignments/{assignment_id}/readiness", **shows(response_models.Readiness, READINESS)
)
async def get_readiness(
    assignment_id: OfAssignment, query: Annotated[ContentCheck, Query()], parts: Deps
) -> Response:
    """Whether a request for this assignment would be prepared; of an unknown one, too."""
    scope_key = f"assignment:{assignment_id}"
    context = (await parts.log.read(scope_key)).context
    lacking = await _lacking(parts, context) if query.check_content else []
    return answered(readiness_of(context, scope_key, parts.log.policy, *lacking))


@for_readers.get("/grade-scales", **shows(response_models.Scales, CONSTANT))
async def list_grade_scales(_: NoQuery) -> Response:
    """Every grade scale."""
    return answered(response_models.Scales(items=[scale_of(scale) for scale in list_scales()]))


async def _now(parts: Dependencies, scope_key: str, *, with_texts: bool) -> Shown:
    """The context as it is, and the texts of its live roles where they are wanted."""
    context = (await parts.log.read(scope_key)).context
    return context, await _live_texts(parts, context) if with_texts else None


async def _live_texts(parts: Dependencies, context: AssignmentContext | None) -> dict[str, str]:
    found = await parts.texts.texts_of(live(context, role) for role in ROLES)
    return {role: text for role, text in zip(ROLES, found, strict=True) if text is not None}


async def _named(
    parts: Dependencies, body: NewAssignment, texts: dict[str, str]
) -> dict[str, TextRef]:
    """Texts by storage id; where a text is given beside its id, it has to be that one."""
    given = {
        "student_prompt": body.student_prompt_storage_id,
        "judge_rubric": body.judge_rubric_storage_id,
    }
    ids = {role: an_id for role, an_id in given.items() if an_id}
    faults = [
        fault_at(f"body/{role}_storage_id", "invalid_content")
        for role, an_id in ids.items()
        if role in texts and ref_of(texts[role]).storage_id != an_id
    ]
    if faults:
        raise invalid(faults)
    return await parts.texts.refs_of({role: ids[role] for role in ids if role not in texts})


async def _lacking(parts: Dependencies, context: AssignmentContext | None) -> list[str]:
    """`<role>_content` for each live role whose text the store lacks or has damaged."""
    return [
        f"{role}_content"
        for role in ROLES
        if (component := live(context, role)) and not await parts.texts.is_readable(component)
    ]
