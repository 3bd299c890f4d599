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
from tools.api.responses.openapi import DELETED, LISTED, READ, WRITTEN, WRITTEN_OR_CREATED, shows
from tools.api.responses.presenters import instruction_of
from tools.api.responses.replies import answered, wrote
from tools.api.routes.write_steps import outcome_of, write
from tools.api.services.text_service import ref_of

PREFIX = "/admin/v1/assessment-instructions"
routes = APIRouter(prefix=PREFIX, tags=["instructions"], route_class=AdmittedRoute)
OfAssignment = Annotated[AssignmentId, Path()]
OfCourse = Annotated[CourseId, Path()]
NoQuery = Annotated[Common, Query()]


@routes.post("", **shows(response_models.InstructionWritten, WRITTEN))
async def upsert_instructions(
    body: Instructions, _: NoQuery, parts: Deps, call: WriteContextDep
) -> Response:
    """Create or replace the instructions of an assignment or a course."""
    return await _replace(parts, call, body.assignment_id, body.course_id, body)


@routes.put(
    "/assignment/{assignment_id}", **shows(response_models.InstructionWritten, WRITTEN_OR_CREATED)
)
async def put_instructions_of_assignment(
    assignment_id: OfAssignment,
    body: PutInstructions,
    _: NoQuery,
    parts: Deps,
    call: WriteContextDep,
) -> Response:
    """Create or replace the instructions of an assignment; 201 where there were none."""
    return await _replace(parts, call, assignment_id, None, body, created=201)


@routes.put("/course/{course_id}", **shows(response_models.InstructionWritten, WRITTEN_OR_CREATED))
async def put_instructions_of_course(
    course_id: OfCourse, body: PutCourseInstructions, _: NoQuery, parts: Deps, call: WriteContextDep
) -> Response:
    """Create or replace the instructions of a course; 201 where there were none."""
    return await _replace(parts, call, None, course_id, body, created=201)


@routes.patch("/assignment/{assignment_id}", **shows(response_models.InstructionWritten, WRITTEN))
async def change_instructions_of_assignment(
    assignment_id: OfAssignment,
    body: PatchInstructions,
    _: NoQuery,
    parts: Deps,
    call: WriteContextDep,
) -> Response:
    """Change some of an assignment's instructions: absent keeps, a storage id that is null unsets."""
    return await _patch(parts, call, assignment_id, None, body)


@routes.patch("/course/{course_id}", **shows(response_models.InstructionWritten, WRITTEN))
async def change_instructions_of_course(
    course_id: OfCourse,
    body: PatchCourseInstructions,
    _: NoQuery,
    parts: Deps,
    call: WriteContextDep,
) -> Response:
    """Change some of a course's instructions: absent keeps."""
    return await _patch(parts, call, None, course_id, body)


@routes.get("", **shows(response_models.InstructionList, LISTED))
async def list_instructions(query: Annotated[Paging, Query()], parts: Deps) -> Response:
    """One page of the live instructions, newest first."""
    found = await parts.log.page(
        page=query.page, page_size=query.page_size, grade_scale=query.grade_scale
    )
    texts = await parts.texts.texts_of(live(one, "instructions") for one in found.items)
    items = [
        response_models.Instruction(**instruction_of(one, text or "", parts.log.policy))
        for one, text in zip(found.items, texts, strict=True)
    ]
    return answered(
        response_models.InstructionList(
            items=items, total=found.total, page=query.page, page_size=query.page_size
        )
    )


@routes.get("/assignment/{assignment_id}", **shows(response_models.Instruction, READ))
async def get_instructions_of_assignment(
    assignment_id: OfAssignment, _: NoQuery, parts: Deps
) -> Response:
    """The live instructions of an assignment."""
    return await _get(parts, f"assignment:{assignment_id}")


@routes.get("/course/{course_id}", **shows(response_models.Instruction, READ))
async def get_instructions_of_course(course_id: OfCourse, _: NoQuery, parts: Deps) -> Response:
    """The live instructions of a course."""
    return await _get(parts, f"course:{course_id}")


@routes.delete("/assignment/{assignment_id}", **shows(response_models.Deleted, DELETED))
async def delete_instructions_of_assignment(
    assignment_id: OfAssignment, _: NoQuery, parts: Deps, call: WriteContextDep
) -> Response:
    """Delete an assignment's instructions, and its prompt and rubric with them."""
    return await _delete(parts, call, {"assignment_id": assignment_id})


@routes.delete("/course/{course_id}", **shows(response_models.Deleted, DELETED))
async def delete_instructions_of_course(
    course_id: OfCourse, _: NoQuery, parts: Deps, call: WriteContextDep
) -> Response:
    """Delete a course's instructions."""
    return await _delete(parts, call, {"course_id": course_id})


async def _replace(
    parts: Dependencies,
    call: WriteContext,
    assignment_id: str | None,
    course_id: str | None,
    body: PutInstructions,
    created: int = 200,
) -> Response:
    call.refuse_contradictions()
    named = await parts.texts.refs_of(_named(body))
    change = WriteCommand(
        assignment_id=assignment_id,
        course_id=course_id,
        instructions=NewInstructions(
            text=ref_of(body.instructions_text),
            grade_scale=body.grade_scale,
            context_origin=body.context_origin or None,
        ),
        student_prompt=named.get("student_prompt"),
        judge_rubric=named.get("judge_rubric"),
        condition_on="instructions",
    )
    written = await write(parts, call, change, [body.instructions_text], named.values())
    return await _written(parts, written, body.instructions_text, created)


async def _patch(
    parts: Dependencies,
    call: WriteContext,
    assignment_id: str | None,
    course_id: str | None,
    body: PatchInstructions,
) -> Response:
    call.refuse_contradictions()
    named = await parts.texts.refs_of(_named(body))
    text = body.instructions_text
    new = NewInstructions(
        text=ref_of(text) if text else None,
        grade_scale=body.grade_scale or None,
        context_origin=body.context_origin or None,
    )
    change = WriteCommand(
        assignment_id=assignment_id,
        course_id=course_id,
        instructions=new,
        student_prompt=_changed(body, "student_prompt", named) if assignment_id else None,
        judge_rubric=_changed(body, "judge_rubric", named) if assignment_id else None,
        needs_live="instructions",
        condition_on="instructions",
    )
    written = await write(parts, call, change, [text] if text else [], named.values())
    return await _written(parts, written, text, created=200)


async def _get(parts: Dependencies, scope_key: str) -> Response:
    context = (await parts.log.read(scope_key)).context
    instructions = live(context, "instructions")
    if context is None or instructions is None:
        deleted = context is not None and context.instructions is not None
        raise not_found("instructions", scope_key, deleted=deleted)
    text = await parts.texts.text_of(instructions)
    shown = instruction_of(context, text or "", parts.log.policy)
    return answered(response_models.Instruction(**shown), tag=etag_of(instructions))


async def _delete(parts: Dependencies, call: WriteContext, scope: dict[str, str]) -> Response:
    change = WriteCommand(
        assignment_id=scope.get("assignment_id"),
        course_id=scope.get("course_id"),
        instructions=DELETE,
        needs_live="instructions",
        condition_on="instructions",
    )
    written = await write(parts, call, change)
    return deleted(written, scope)


def deleted(written: WriteResult, scope: Mapping[str, str]) -> Response:
    """What a deletion answers; scope is the one id that it was asked by."""
    roles = [role for role, one in written.decision.outcomes.items() if one == "deleted"]
    said = outcome_of(written, several=True)
    document = response_models.Deleted(status="deleted", **scope, deleted=roles, **said)
    return wrote(document, written)


async def _written(parts: Dependencies, written: WriteResult, text: str, created: int) -> Response:
    context: AssignmentContext | None = written.context
    instructions = live(context, "instructions")
    assert context is not None
    text = text or await parts.texts.text_of(instructions) or ""
    shown = instruction_of(context, text, parts.log.policy)
    document = response_models.InstructionWritten(**shown, **outcome_of(written, several=True))
    return wrote(document, written, tag=etag_of(instructions), created=created)


def _named(body: PutInstructions | PatchInstructions) -> dict[str, str]:
    """Storage ids by role, those that are given."""
    ids = {
        "student_prompt": body.student_prompt_storage_id,
        "judge_rubric": body.judge_rubric_storage_id,
    }
    return {role: an_id for role, an_id in ids.items() if an_id}


def _changed(
    body: PatchInstructions, role: str, named: dict[str, TextRef]
) -> TextRef | Delete | None:
    """Null unsets, absent keeps."""
    is_null = f"{role}_storage_id" in body.model_fields_set and role not in named
    return DELETE if is_null else named.get(role)
