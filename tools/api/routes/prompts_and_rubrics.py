"""/student-prompts and /judge-rubrics: the prompt and the rubric of an assignment."""

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
from tools.api.responses.openapi import DELETED, READ, WRITTEN, returns
from tools.api.responses.presenters import prompt_or_rubric_fields
from tools.api.responses.replies import ok_response, write_response
from tools.api.routes.instructions import deletion_response
from tools.api.routes.write_steps import outcome_fields, write
from tools.api.services.text_service import ref_of

routes = APIRouter(prefix="/admin/v1", tags=["prompts and rubrics"], route_class=AdmittedRoute)
OfAssignment = Annotated[AssignmentId, Path()]
NoQuery = Annotated[Common, Query()]
PROMPT, RUBRIC = "student_prompt", "judge_rubric"


@routes.post("/student-prompts", **returns(response_models.PromptWritten, WRITTEN))
async def upload_prompt(
    body: NewPrompt, _: NoQuery, deps: Deps, write_context: WriteContextDep
) -> Response:
    """Create or replace the student prompt of an assignment that has instructions."""
    return await _upload(deps, write_context, PROMPT, body.assignment_id, body.prompt_text)


@routes.get("/student-prompts/assignment/{assignment_id}", **returns(response_models.Prompt, READ))
async def get_prompt(assignment_id: OfAssignment, _: NoQuery, deps: Deps) -> Response:
    """The live student prompt of an assignment."""
    return await _get(deps, PROMPT, assignment_id)


@routes.delete(
    "/student-prompts/assignment/{assignment_id}", **returns(response_models.Deleted, DELETED)
)
async def delete_prompt(
    assignment_id: OfAssignment, _: NoQuery, deps: Deps, write_context: WriteContextDep
) -> Response:
    """Delete the student prompt of an assignment."""
    return await _delete(deps, write_context, PROMPT, assignment_id)


@routes.post("/judge-rubrics", **returns(response_models.RubricWritten, WRITTEN))
async def upload_rubric(
    body: NewRubric, _: NoQuery, deps: Deps, write_context: WriteContextDep
) -> Response:
    """Create or replace the judge rubric of an assignment that has instructions."""
    return await _upload(deps, write_context, RUBRIC, body.assignment_id, body.rubric_text)


@routes.get("/judge-rubrics/assignment/{assignment_id}", **returns(response_models.Rubric, READ))
async def get_rubric(assignment_id: OfAssignment, _: NoQuery, deps: Deps) -> Response:
    """The live judge rubric of an assignment."""
    return await _get(deps, RUBRIC, assignment_id)


@routes.delete(
    "/judge-rubrics/assignment/{assignment_id}", **returns(response_models.Deleted, DELETED)
)
async def delete_rubric(
    assignment_id: OfAssignment, _: NoQuery, deps: Deps, write_context: WriteContextDep
) -> Response:
    """Delete the judge rubric of an assignment."""
    return await _delete(deps, write_context, RUBRIC, assignment_id)


READ_MODELS: dict[str, type[response_models.OfAssignment]] = {
    PROMPT: response_models.Prompt,
    RUBRIC: response_models.Rubric,
}
WRITTEN_MODELS: dict[str, type[response_models.OfAssignment]] = {
    PROMPT: response_models.PromptWritten,
    RUBRIC: response_models.RubricWritten,
}


async def _upload(
    deps: Dependencies, write_context: WriteContext, role: str, assignment_id: str, text: str
) -> Response:
    command = WriteCommand(
        assignment_id=assignment_id,
        course_id=None,
        student_prompt=ref_of(text) if role == PROMPT else None,
        judge_rubric=ref_of(text) if role == RUBRIC else None,
        needs_live="instructions",
        condition_on=role,
    )
    result = await write(deps, write_context, command, [text])
    assert result.context is not None
    instructions = await deps.texts.text_of(live(result.context, "instructions"))
    fields = prompt_or_rubric_fields(result.context, role, text, instructions)
    document = WRITTEN_MODELS[role](**fields, **outcome_fields(result, several=False))
    return write_response(document, result, etag=etag_of(component_of(result.context, role)))


async def _get(deps: Dependencies, role: str, assignment_id: str) -> Response:
    scope_key = f"assignment:{assignment_id}"
    context = (await deps.log.read(scope_key)).context
    component, instructions = live(context, role), live(context, "instructions")
    if context is None or component is None:
        raise _missing(context, role, scope_key)
    text, instructions_text = await deps.texts.texts_of([component, instructions])
    fields = prompt_or_rubric_fields(context, role, text or "", instructions_text)
    return ok_response(READ_MODELS[role](**fields), etag=etag_of(component))


def _missing(context: AssignmentContext | None, role: str, scope_key: str) -> Exception:
    """The 404 for the role, or for the instructions if they are missing, too."""
    absent = role if live(context, "instructions") else "instructions"
    deleted = component_of(context, absent) is not None
    return not_found(absent, scope_key, deleted=deleted)


async def _delete(
    deps: Dependencies, write_context: WriteContext, role: str, assignment_id: str
) -> Response:
    command = WriteCommand(
        assignment_id=assignment_id,
        course_id=None,
        student_prompt=DELETE if role == PROMPT else None,
        judge_rubric=DELETE if role == RUBRIC else None,
        needs_live=role,
        condition_on=role,
    )
    result = await write(deps, write_context, command)
    return deletion_response(result, {"assignment_id": assignment_id})
