"""/student-prompts and /judge-rubrics: the prompt and the rubric of an assignment."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from tables.context import component_of, live
from tables.etags import etag_of
from tools.api.admission import AdmittedRoute, WriteDep, WriteRequest
from tools.api.dependencies import Dependencies, Deps
from tools.api.errors.problems import not_live
from tools.api.requests.field_types import AssignmentId
from tools.api.requests.request_models import NewPrompt, NewRubric, NoQuery
from tools.api.responses import presenters
from tools.api.responses import response_models as models
from tools.api.responses.openapi import DELETED, READ, WRITTEN, returns
from tools.api.routes.write_steps import delete_role, execute, write_command
from tools.api.services.text_service import ref_of, unreadable

routes = APIRouter(prefix="/admin/v1", tags=["prompts and rubrics"], route_class=AdmittedRoute)
PROMPT_PATH = "/student-prompts/assignment/{assignment_id}"
RUBRIC_PATH = "/judge-rubrics/assignment/{assignment_id}"
Id = Annotated[AssignmentId, Path()]
PROMPT, RUBRIC = "student_prompt", "judge_rubric"


@routes.post("/student-prompts", **returns(models.PromptWritten, WRITTEN))
async def upload_prompt(body: NewPrompt, write: WriteDep) -> Response:
    """Create or replace the student prompt of an assignment that has instructions."""
    return await _upload(write, PROMPT, body.assignment_id, body.prompt_text, models.PromptWritten)


@routes.get(PROMPT_PATH, **returns(models.Prompt, READ))
async def get_prompt(assignment_id: Id, _: NoQuery, deps: Deps) -> Response:
    """The live student prompt of an assignment."""
    return await _get(deps, PROMPT, assignment_id, models.Prompt)


@routes.delete(PROMPT_PATH, **returns(models.Deleted, DELETED))
async def delete_prompt(assignment_id: Id, write: WriteDep) -> Response:
    """Delete the student prompt of an assignment."""
    return await delete_role(write, f"assignment:{assignment_id}", PROMPT)


@routes.post("/judge-rubrics", **returns(models.RubricWritten, WRITTEN))
async def upload_rubric(body: NewRubric, write: WriteDep) -> Response:
    """Create or replace the judge rubric of an assignment that has instructions."""
    return await _upload(write, RUBRIC, body.assignment_id, body.rubric_text, models.RubricWritten)


@routes.get(RUBRIC_PATH, **returns(models.Rubric, READ))
async def get_rubric(assignment_id: Id, _: NoQuery, deps: Deps) -> Response:
    """The live judge rubric of an assignment."""
    return await _get(deps, RUBRIC, assignment_id, models.Rubric)


@routes.delete(RUBRIC_PATH, **returns(models.Deleted, DELETED))
async def delete_rubric(assignment_id: Id, write: WriteDep) -> Response:
    """Delete the judge rubric of an assignment."""
    return await delete_role(write, f"assignment:{assignment_id}", RUBRIC)


async def _upload(
    write: WriteRequest, role: str, assignment_id: str, text: str, model: type[models.OfAssignment]
) -> Response:
    scope_key, needs_live = f"assignment:{assignment_id}", "instructions"
    command = write_command(scope_key, role, needs_live=needs_live, **{role: ref_of(text)})
    result = await execute(write, command, [text])
    assert result.context is not None
    instructions = await write.deps.texts.state_of(result.context, "instructions")
    fields = presenters.prompt_or_rubric_fields(result.context, role, text, instructions)
    etag = etag_of(component_of(result.context, role))
    return presenters.write_response(model, fields, result, etag=etag)


async def _get(
    deps: Dependencies, role: str, assignment_id: str, model: type[models.OfAssignment]
) -> Response:
    scope_key = f"assignment:{assignment_id}"
    context = await deps.log.read(scope_key)
    component = live(context, role)
    if context is None or component is None:
        raise not_live(context, role, scope_key)
    own, of_instructions = await deps.texts.states_of([(context, role), (context, "instructions")])
    if own is None or own.text is None:
        raise unreadable(context, role, own)
    fields = presenters.prompt_or_rubric_fields(context, role, own.text, of_instructions)
    return presenters.ok_response(presenters.filled(model, fields), etag=etag_of(component))
