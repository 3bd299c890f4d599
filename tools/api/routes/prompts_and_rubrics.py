"""/student-prompts and /judge-rubrics: what an assignment has beside its instructions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from schemas.events import AssignmentContext
from tables.commands import DELETE, WriteCommand
from tables.context import component_of, live
from tables.etags import etag_of
from tools.api.admission import AdmittedRoute, WriteContext, WriteContextDep
from tools.api.dependencies import Dependencies, Deps
from tools.api.requests.field_types import AssignmentId
from tools.api.requests.request_models import Common, NewPrompt, NewRubric
from tools.api.responses import response_models
from tools.api.responses.error_mapping import not_found
from tools.api.responses.openapi import DELETED, READ, WRITTEN, shows
from tools.api.responses.presenters import text_of_assignment
from tools.api.responses.replies import answered, wrote
from tools.api.routes.instructions import deleted
from tools.api.routes.write_steps import outcome_of, write
from tools.api.services.text_service import ref_of

routes = APIRouter(prefix="/admin/v1", tags=["prompts and rubrics"], route_class=AdmittedRoute)
OfAssignment = Annotated[AssignmentId, Path()]
NoQuery = Annotated[Common, Query()]
PROMPT, RUBRIC = "student_prompt", "judge_rubric"


@routes.post("/student-prompts", **shows(response_models.PromptWritten, WRITTEN))
async def upload_prompt(
    body: NewPrompt, _: NoQuery, parts: Deps, call: WriteContextDep
) -> Response:
    """Create or replace the student prompt of an assignment that has instructions."""
    return await _upload(parts, call, PROMPT, body.assignment_id, body.prompt_text)


@routes.get("/student-prompts/assignment/{assignment_id}", **shows(response_models.Prompt, READ))
async def get_prompt(assignment_id: OfAssignment, _: NoQuery, parts: Deps) -> Response:
    """The live student prompt of an assignment."""
    return await _get(parts, PROMPT, assignment_id)


@routes.delete(
    "/student-prompts/assignment/{assignment_id}", **shows(response_models.Deleted, DELETED)
)
async def delete_prompt(
    assignment_id: OfAssignment, _: NoQuery, parts: Deps, call: WriteContextDep
) -> Response:
    """Delete the student prompt of an assignment."""
    return await _delete(parts, call, PROMPT, assignment_id)


@routes.post("/judge-rubrics", **shows(response_models.RubricWritten, WRITTEN))
async def upload_rubric(
    body: NewRubric, _: NoQuery, parts: Deps, call: WriteContextDep
) -> Response:
    """Create or replace the judge rubric of an assignment that has instructions."""
    return await _upload(parts, call, RUBRIC, body.assignment_id, body.rubric_text)


@routes.get("/judge-rubrics/assignment/{assignment_id}", **shows(response_models.Rubric, READ))
async def get_rubric(assignment_id: OfAssignment, _: NoQuery, parts: Deps) -> Response:
    """The live judge rubric of an assignment."""
    return await _get(parts, RUBRIC, assignment_id)


@routes.delete(
    "/judge-rubrics/assignment/{assignment_id}", **shows(response_models.Deleted, DELETED)
)
async def delete_rubric(
    assignment_id: OfAssignment, _: NoQuery, parts: Deps, call: WriteContextDep
) -> Response:
    """Delete the judge rubric of an assignment."""
    return await _delete(parts, call, RUBRIC, assignment_id)


READABLE: dict[str, type[response_models.OfAssignment]] = {
    PROMPT: response_models.Prompt,
    RUBRIC: response_models.Rubric,
}
WRITABLE: dict[str, type[response_models.OfAssignment]] = {
    PROMPT: response_models.PromptWritten,
    RUBRIC: response_models.RubricWritten,
}


async def _upload(
    parts: Dependencies, call: WriteContext, role: str, assignment_id: str, text: str
) -> Response:
    change = WriteCommand(
        assignment_id=assignment_id,
        course_id=None,
        student_prompt=ref_of(text) if role == PROMPT else None,
        judge_rubric=ref_of(text) if role == RUBRIC else None,
        needs_live="instructions",
        condition_on=role,
    )
    written = await write(parts, call, change, [text])
    assert written.context is not None
    instructions = await parts.texts.text_of(live(written.context, "instructions"))
    shown = text_of_assignment(written.context, role, text, instructions)
    document = WRITABLE[role](**shown, **outcome_of(written, several=False))
    return wrote(document, written, tag=etag_of(component_of(written.context, role)))


async def _get(parts: Dependencies, role: str, assignment_id: str) -> Response:
    scope_key = f"assignment:{assignment_id}"
    context = (await parts.log.read(scope_key)).context
    component, instructions = live(context, role), live(context, "instructions")
    if context is None or component is None:
        raise _missing(context, role, scope_key)
    text, of_instructions = await parts.texts.texts_of([component, instructions])
    shown = text_of_assignment(context, role, text or "", of_instructions)
    return answered(READABLE[role](**shown), tag=etag_of(component))


def _missing(context: AssignmentContext | None, role: str, scope_key: str) -> Exception:
    """404: for the instructions where there are none either."""
    absent = role if live(context, "instructions") else "instructions"
    was_there = component_of(context, absent) is not None
    return not_found(absent, scope_key, deleted=was_there)


async def _delete(
    parts: Dependencies, call: WriteContext, role: str, assignment_id: str
) -> Response:
    change = WriteCommand(
        assignment_id=assignment_id,
        course_id=None,
        student_prompt=DELETE if role == PROMPT else None,
        judge_rubric=DELETE if role == RUBRIC else None,
        needs_live=role,
        condition_on=role,
    )
    return deleted(await write(parts, call, change), {"assignment_id": assignment_id})
