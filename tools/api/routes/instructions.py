"""/assessment-instructions: the instructions of assignments and courses."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from processors.upload_log.upload_log import WriteResult
from schemas.events import AssignmentContext
from tables.commands import DELETE, Delete, NewInstructions, TextRef, WriteCommand
from tables.context import live
from tables.etags import etag_of
from tools.api.admission import AdmittedRoute, WriteContext, WriteContextDep
from tools.api.dependencies import Dependencies, Deps
from tools.api.requests.field_types import AssignmentId, CourseId
from tools.api.requests.request_models import (
    Common,
    Instructions,
    Paging,
    PatchCourseInstructions,
    PatchInstructions,
    PutCourseInstructions,
    PutInstructions,
)
from tools.api.responses import response_models
from tools.api.responses.error_mapping import not_found
from tools.api.responses.openapi import DELETED, LISTED, READ, WRITTEN, WRITTEN_OR_CREATED, returns
from tools.api.responses.presenters import instruction_fields
from tools.api.responses.replies import ok_response, write_response
from tools.api.routes.write_steps import outcome_fields, write
from tools.api.services.text_service import ref_of

PREFIX = "/admin/v1/assessment-instructions"
routes = APIRouter(prefix=PREFIX, tags=["instructions"], route_class=AdmittedRoute)
OfAssignment = Annotated[AssignmentId, Path()]
OfCourse = Annotated[CourseId, Path()]
NoQuery = Annotated[Common, Query()]


@routes.post("", **returns(response_models.InstructionWritten, WRITTEN))
async def upsert_instructions(
    body: Instructions, _: NoQuery, deps: Deps, write_context: WriteContextDep
) -> Response:
    """Create or replace the instructions of an assignment or a course."""
    return await _replace(deps, write_context, body.assignment_id, body.course_id, body)


@routes.put(
    "/assignment/{assignment_id}", **returns(response_models.InstructionWritten, WRITTEN_OR_CREATED)
)
async def put_instructions_of_assignment(
    assignment_id: OfAssignment,
    body: PutInstructions,
    _: NoQuery,
    deps: Deps,
    write_context: WriteContextDep,
) -> Response:
    """Create or replace the instructions of an assignment; 201 if it had none."""
    return await _replace(deps, write_context, assignment_id, None, body, created=201)


@routes.put(
    "/course/{course_id}", **returns(response_models.InstructionWritten, WRITTEN_OR_CREATED)
)
async def put_instructions_of_course(
    course_id: OfCourse,
    body: PutCourseInstructions,
    _: NoQuery,
    deps: Deps,
    write_context: WriteContextDep,
) -> Response:
    """Create or replace the instructions of a course; 201 if it had none."""
    return await _replace(deps, write_context, None, course_id, body, created=201)


@routes.patch("/assignment/{assignment_id}", **returns(response_models.InstructionWritten, WRITTEN))
async def change_instructions_of_assignment(
    assignment_id: OfAssignment,
    body: PatchInstructions,
    _: NoQuery,
    deps: Deps,
    write_context: WriteContextDep,
) -> Response:
    """Change parts of an assignment's instructions: absent fields stay, a null storage id deletes prompt or rubric."""
    return await _patch(deps, write_context, assignment_id, None, body)


@routes.patch("/course/{course_id}", **returns(response_models.InstructionWritten, WRITTEN))
async def change_instructions_of_course(
    course_id: OfCourse,
    body: PatchCourseInstructions,
    _: NoQuery,
    deps: Deps,
    write_context: WriteContextDep,
) -> Response:
    """Change parts of a course's instructions: absent fields stay."""
    return await _patch(deps, write_context, None, course_id, body)


@routes.get("", **returns(response_models.InstructionList, LISTED))
async def list_instructions(query: Annotated[Paging, Query()], deps: Deps) -> Response:
    """One page of the live instructions, newest first."""
    result = await deps.log.page(
        page=query.page, page_size=query.page_size, grade_scale=query.grade_scale
    )
    texts = await deps.texts.texts_of(live(context, "instructions") for context in result.items)
    items = [
        response_models.Instruction(**instruction_fields(context, text or "", deps.log.policy))
        for context, text in zip(result.items, texts, strict=True)
    ]
    return ok_response(
        response_models.InstructionList(
            items=items, total=result.total, page=query.page, page_size=query.page_size
        )
    )


@routes.get("/assignment/{assignment_id}", **returns(response_models.Instruction, READ))
async def get_instructions_of_assignment(
    assignment_id: OfAssignment, _: NoQuery, deps: Deps
) -> Response:
    """The live instructions of an assignment."""
    return await _get(deps, f"assignment:{assignment_id}")


@routes.get("/course/{course_id}", **returns(response_models.Instruction, READ))
async def get_instructions_of_course(course_id: OfCourse, _: NoQuery, deps: Deps) -> Response:
    """The live instructions of a course."""
    return await _get(deps, f"course:{course_id}")


@routes.delete("/assignment/{assignment_id}", **returns(response_models.Deleted, DELETED))
async def delete_instructions_of_assignment(
    assignment_id: OfAssignment, _: NoQuery, deps: Deps, write_context: WriteContextDep
) -> Response:
    """Delete an assignment's instructions together with its prompt and rubric."""
    return await _delete(deps, write_context, {"assignment_id": assignment_id})


@routes.delete("/course/{course_id}", **returns(response_models.Deleted, DELETED))
async def delete_instructions_of_course(
    course_id: OfCourse, _: NoQuery, deps: Deps, write_context: WriteContextDep
) -> Response:
    """Delete a course's instructions."""
    return await _delete(deps, write_context, {"course_id": course_id})


async def _replace(
    deps: Dependencies,
    write_context: WriteContext,
    assignment_id: str | None,
    course_id: str | None,
    body: PutInstructions,
    created: int = 200,
) -> Response:
    write_context.check_scope()
    stored = await deps.texts.refs_of(_storage_ids(body))
    command = WriteCommand(
        assignment_id=assignment_id,
        course_id=course_id,
        instructions=NewInstructions(
            text=ref_of(body.instructions_text),
            grade_scale=body.grade_scale,
            context_origin=body.context_origin or None,
        ),
        student_prompt=stored.get("student_prompt"),
        judge_rubric=stored.get("judge_rubric"),
        condition_on="instructions",
    )
    new_texts = [body.instructions_text]
    result = await write(deps, write_context, command, new_texts, stored.values())
    return await _written(deps, result, body.instructions_text, created)


async def _patch(
    deps: Dependencies,
    write_context: WriteContext,
    assignment_id: str | None,
    course_id: str | None,
    body: PatchInstructions,
) -> Response:
    write_context.check_scope()
    stored = await deps.texts.refs_of(_storage_ids(body))
    text = body.instructions_text
    new = NewInstructions(
        text=ref_of(text) if text else None,
        grade_scale=body.grade_scale or None,
        context_origin=body.context_origin or None,
    )
    command = WriteCommand(
        assignment_id=assignment_id,
        course_id=course_id,
        instructions=new,
        student_prompt=_changed(body, "student_prompt", stored) if assignment_id else None,
        judge_rubric=_changed(body, "judge_rubric", stored) if assignment_id else None,
        needs_live="instructions",
        condition_on="instructions",
    )
    new_texts = [text] if text else []
    result = await write(deps, write_context, command, new_texts, stored.values())
    return await _written(deps, result, text, created=200)


async def _get(deps: Dependencies, scope_key: str) -> Response:
    context = (await deps.log.read(scope_key)).context
    instructions = live(context, "instructions")
    if context is None or instructions is None:
        deleted = context is not None and context.instructions is not None
        raise not_found("instructions", scope_key, deleted=deleted)
    text = await deps.texts.text_of(instructions)
    fields = instruction_fields(context, text or "", deps.log.policy)
    return ok_response(response_models.Instruction(**fields), etag=etag_of(instructions))


async def _delete(
    deps: Dependencies, write_context: WriteContext, scope: dict[str, str]
) -> Response:
    command = WriteCommand(
        assignment_id=scope.get("assignment_id"),
        course_id=scope.get("course_id"),
        instructions=DELETE,
        needs_live="instructions",
        condition_on="instructions",
    )
    result = await write(deps, write_context, command)
    return deletion_response(result, scope)


def deletion_response(result: WriteResult, scope: Mapping[str, str]) -> Response:
    """The response to a deletion; `scope` is the id in the path, by its field name."""
    roles = [role for role, outcome in result.decision.outcomes.items() if outcome == "deleted"]
    outcomes = outcome_fields(result, several=True)
    document = response_models.Deleted(status="deleted", **scope, deleted=roles, **outcomes)
    return write_response(document, result)


async def _written(deps: Dependencies, result: WriteResult, text: str, created: int) -> Response:
    context: AssignmentContext | None = result.context
    instructions = live(context, "instructions")
    assert context is not None
    text = text or await deps.texts.text_of(instructions) or ""
    fields = instruction_fields(context, text, deps.log.policy)
    document = response_models.InstructionWritten(**fields, **outcome_fields(result, several=True))
    return write_response(document, result, etag=etag_of(instructions), created=created)


def _storage_ids(body: PutInstructions | PatchInstructions) -> dict[str, str]:
    """The storage ids in the body, by role."""
    ids = {
        "student_prompt": body.student_prompt_storage_id,
        "judge_rubric": body.judge_rubric_storage_id,
    }
    return {role: storage_id for role, storage_id in ids.items() if storage_id}


def _changed(
    body: PatchInstructions, role: str, stored: dict[str, TextRef]
) -> TextRef | Delete | None:
    """The change of a role: null deletes it, absent leaves it."""
    is_null = f"{role}_storage_id" in body.model_fields_set and role not in stored
    return DELETE if is_null else stored.get(role)
