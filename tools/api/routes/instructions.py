"""/assessment-instructions: the instructions of assignments and courses."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from tables.commands import DELETE, Delete, NewInstructions, TextRef
from tables.context import live
from tables.etags import etag_of
from tools.api.admission import AdmittedRoute, AuditorRoute, WriteDep, WriteRequest
from tools.api.dependencies import Dependencies, Deps
from tools.api.errors.problems import not_live
from tools.api.requests import request_models as requests
from tools.api.requests.field_types import AssignmentId, CourseId
from tools.api.responses import presenters
from tools.api.responses import response_models as models
from tools.api.responses.openapi import (
    DELETED,
    READ,
    READABLE,
    WRITTEN,
    WRITTEN_OR_CREATED,
    returns,
)
from tools.api.routes.write_steps import delete_role, execute, write_command
from tools.api.services.text_service import ref_of
from tools.audit.stored_text import TextState

PREFIX = "/admin/v1/assessment-instructions"
for_admins = APIRouter(prefix=PREFIX, tags=["instructions"], route_class=AdmittedRoute)
for_auditors = APIRouter(prefix=PREFIX, tags=["instructions"], route_class=AuditorRoute)
ASSIGNMENT_PATH, COURSE_PATH = "/assignment/{assignment_id}", "/course/{course_id}"
OfAssignment = Annotated[AssignmentId, Path()]
OfCourse = Annotated[CourseId, Path()]


@for_admins.post("", **returns(models.InstructionWritten, WRITTEN))
async def upsert_instructions(body: requests.Instructions, write: WriteDep) -> Response:
    """Create or replace the instructions of an assignment or a course."""
    if body.assignment_id is not None:
        return await _write(write, f"assignment:{body.assignment_id}", body)
    return await _write(write, f"course:{body.course_id}", body)


@for_admins.put(ASSIGNMENT_PATH, **returns(models.InstructionWritten, WRITTEN_OR_CREATED))
async def put_instructions_of_assignment(
    assignment_id: OfAssignment, body: requests.PutInstructions, write: WriteDep
) -> Response:
    """Create or replace the instructions of an assignment; 201 if it had none."""
    return await _write(write, f"assignment:{assignment_id}", body, created=201)


@for_admins.put(COURSE_PATH, **returns(models.InstructionWritten, WRITTEN_OR_CREATED))
async def put_instructions_of_course(
    course_id: OfCourse, body: requests.PutCourseInstructions, write: WriteDep
) -> Response:
    """Create or replace the instructions of a course; 201 if it had none."""
    return await _write(write, f"course:{course_id}", body, created=201)


@for_admins.patch(ASSIGNMENT_PATH, **returns(models.InstructionWritten, WRITTEN))
async def change_instructions_of_assignment(
    assignment_id: OfAssignment, body: requests.PatchInstructions, write: WriteDep
) -> Response:
    """Change parts of an assignment's instructions: absent fields stay, a null storage id deletes prompt or rubric."""
    return await _write(write, f"assignment:{assignment_id}", body)


@for_admins.patch(COURSE_PATH, **returns(models.InstructionWritten, WRITTEN))
async def change_instructions_of_course(
    course_id: OfCourse, body: requests.PatchCourseInstructions, write: WriteDep
) -> Response:
    """Change parts of a course's instructions: absent fields stay."""
    return await _write(write, f"course:{course_id}", body)


@for_auditors.get("", **returns(models.InstructionList, READABLE))
async def list_instructions(
    query: Annotated[requests.InstructionPaging, Query()], deps: Deps
) -> Response:
    """One page of the live instructions, newest first; `text_state` marks a text that cannot be read.

    With `id_prefix`, those whose id begins with it, sorted by id: assignments, then courses.
    """
    result = await deps.log.page(
        page=query.page,
        page_size=query.page_size,
        grade_scale=query.grade_scale,
        id_prefix=query.id_prefix,
    )
    texts = await deps.texts.states_of((context, "instructions") for context in result.items)
    items = [
        presenters.filled(
            models.Instruction, presenters.instruction_fields(context, text, deps.log.policy)
        )
        for context, text in zip(result.items, texts, strict=True)
    ]
    page = {"page": query.page, "page_size": query.page_size}
    return presenters.ok_response(models.InstructionList(items=items, total=result.total, **page))


@for_admins.get(ASSIGNMENT_PATH, **returns(models.Instruction, READ))
async def get_instructions_of_assignment(
    assignment_id: OfAssignment, _: requests.NoQuery, deps: Deps
) -> Response:
    """The live instructions of an assignment."""
    return await _get(deps, f"assignment:{assignment_id}")


@for_admins.get(COURSE_PATH, **returns(models.Instruction, READ))
async def get_instructions_of_course(
    course_id: OfCourse, _: requests.NoQuery, deps: Deps
) -> Response:
    """The live instructions of a course."""
    return await _get(deps, f"course:{course_id}")


@for_admins.delete(ASSIGNMENT_PATH, **returns(models.Deleted, DELETED))
async def delete_instructions_of_assignment(
    assignment_id: OfAssignment, write: WriteDep
) -> Response:
    """Delete an assignment's instructions together with its prompt, rubric and anchors."""
    return await delete_role(write, f"assignment:{assignment_id}", "instructions")


@for_admins.delete(COURSE_PATH, **returns(models.Deleted, DELETED))
async def delete_instructions_of_course(course_id: OfCourse, write: WriteDep) -> Response:
    """Delete a course's instructions."""
    return await delete_role(write, f"course:{course_id}", "instructions")


async def _write(
    write: WriteRequest,
    scope_key: str,
    body: requests.PutInstructions | requests.PatchInstructions,
    created: int = 200,
) -> Response:
    write.check_scope()
    deps, text = write.deps, body.instructions_text
    stored = await deps.texts.refs_of(body.storage_ids)
    new = NewInstructions(
        text=ref_of(text) if text else None,
        grade_scale=body.grade_scale or None,
        context_origin=body.context_origin or None,
    )
    roles: dict[str, TextRef | Delete] = {**stored}
    needs_live = None
    if isinstance(body, requests.PatchInstructions):
        needs_live = "instructions"
        if scope_key.startswith("assignment:"):  # a course has neither prompt nor rubric
            roles |= dict.fromkeys(body.unset_roles, DELETE)
    command = write_command(
        scope_key, "instructions", needs_live=needs_live, instructions=new, **roles
    )
    result = await execute(write, command, [text] if text else [], stored.values())
    context = result.context
    assert context is not None
    instructions = live(context, "instructions")
    state = (
        TextState("present", text) if text else await deps.texts.state_of(context, "instructions")
    )
    fields = presenters.instruction_fields(context, state, deps.log.policy)
    return presenters.write_response(
        models.InstructionWritten, fields, result, etag=etag_of(instructions), created=created
    )


async def _get(deps: Dependencies, scope_key: str) -> Response:
    context = await deps.log.read(scope_key)
    instructions = live(context, "instructions")
    if context is None or instructions is None:
        raise not_live(context, "instructions", scope_key)
    text = TextState("present", await deps.texts.text_of(context, "instructions"))
    fields = presenters.instruction_fields(context, text, deps.log.policy)
    return presenters.ok_response(
        presenters.filled(models.Instruction, fields), etag=etag_of(instructions)
    )
