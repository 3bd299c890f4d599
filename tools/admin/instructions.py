"""`cjstream admin instructions …`."""

import sys
from typing import Annotated, Any

import typer

from tools.admin import arguments
from tools.admin.api import AdminApi
from tools.admin.failures import Usage
from tools.admin.options import (
    AssignmentOption,
    CourseOption,
    CreateOnly,
    IfVersion,
    PageSize,
    Yes,
    uses_api,
)
from tools.admin.output import cell, show_rows, show_text
from tools.admin.texts import (
    INSTRUCTIONS,
    PROMPT,
    RUBRIC,
    delete_role,
    file_option,
    text_option,
)
from tools.printing import print_json
from tools.progress import say

ROUTE, TITLE = INSTRUCTIONS.route, INSTRUCTIONS.title
COLUMNS = ("scope", "scale", "text", "prompt", "rubric", "ready", "version", "updated", "by")
STORAGE_IDS = ("storage_id", "student_prompt_storage_id", "judge_rubric_storage_id")
FIELDS = ("scope_key", "grade_scale", "context_origin", "version", *STORAGE_IDS)
READ_FIELDS = (*FIELDS, "created_at", "updated_at", "updated_by", "source", "readiness")
WRITE_FIELDS = ("outcome", *FIELDS, "position")
ASSIGNMENT_WRITE_FIELDS = ("outcome", "assignment_id", "outcomes", "tag", "position")
InstructionsFile = Annotated[str | None, file_option(INSTRUCTIONS)]
InstructionsText = Annotated[str | None, text_option(INSTRUCTIONS)]

instructions_app = typer.Typer(help="Assessment instructions.", no_args_is_help=True)


@instructions_app.command()
@uses_api
def create(
    api: AdminApi,
    grade_scale: Annotated[str, typer.Option(help="Id of a grade scale: see `scales list`.")],
    assignment_id: AssignmentOption = None,
    course_id: CourseOption = None,
    instructions_file: InstructionsFile = None,
    instructions_text: InstructionsText = None,
    prompt_file: Annotated[str | None, file_option(PROMPT)] = None,
    prompt_text: Annotated[str | None, text_option(PROMPT)] = None,
    rubric_file: Annotated[str | None, file_option(RUBRIC)] = None,
    rubric_text: Annotated[str | None, text_option(RUBRIC)] = None,
    context_origin: Annotated[
        str | None,
        typer.Option(help="Where the assignment comes from, such as research_experiment."),
    ] = None,
    create_only: CreateOnly = False,
    if_version: IfVersion = None,
) -> None:
    """Create or replace instructions; a prompt and a rubric are written with them, all or nothing."""
    scope = arguments.scope_of(assignment_id, course_id)
    other_sources = (prompt_file, prompt_text, rubric_file, rubric_text)
    has_other_texts = any(source is not None for source in other_sources)
    if has_other_texts and course_id is not None:
        raise Usage("a course has only instructions, no prompt and no rubric")
    body = {**scope.fields, "grade_scale": arguments.scale(grade_scale)}
    if context_origin is not None:
        body["context_origin"] = arguments.checked("context_origin", context_origin)
    condition = arguments.condition_of(
        if_version, create_only=create_only, assignment_etag=has_other_texts
    )
    if instructions_file is None and instructions_text is None:
        if not sys.stdin.isatty():
            raise Usage("give one of --instructions-file and --instructions-text")
        say("Type the instructions, then end the input (Ctrl-D):")
        instructions_file = "-"
    texts = arguments.texts_of(
        instructions=(instructions_file, instructions_text),
        prompt=(prompt_file, prompt_text),
        rubric=(rubric_file, rubric_text),
    )
    body |= {f"{name}_text": text for name, text in texts.items()}
    response = api.call(
        f"create the instructions of {scope}",
        "POST",
        "assignments" if has_other_texts else ROUTE,
        body=body,
        condition=condition,
    )
    api.show(response, TITLE, ASSIGNMENT_WRITE_FIELDS if has_other_texts else WRITE_FIELDS)


@instructions_app.command("list")
@uses_api
def list_all(
    api: AdminApi,
    grade_scale: Annotated[
        str | None, typer.Option(help="Only instructions with this grade scale.")
    ] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    page_size: PageSize = 20,
) -> None:
    """Live instructions, newest first."""
    query: dict[str, Any] = {"page": page, "page_size": page_size}
    if grade_scale is not None:
        query["grade_scale"] = arguments.scale(grade_scale)
    document = api.call("list the instructions", "GET", ROUTE, query=query).document
    if api.as_json:
        print_json(document)
        return
    title = f"Instructions, page {page}: {len(document['items'])} of {document['total']}"
    show_rows(title, COLUMNS, [row_of(item) for item in document["items"]])


def row_of(item: dict[str, Any]) -> tuple[str, ...]:
    """An item of the list as a table row."""
    readiness = item.get("readiness") or {}
    return (
        item["scope_key"],
        item["grade_scale"],
        cell(item.get("text_state")),
        cell(readiness.get("has_student_prompt")),
        cell(readiness.get("has_judge_rubric")),
        cell(readiness.get("ready")),
        cell(item["version"]),
        item["updated_at"],
        item["updated_by"],
    )


@instructions_app.command()
@uses_api
def get(
    api: AdminApi,
    assignment_id: Annotated[str | None, typer.Argument(help="Id of the assignment.")] = None,
    course_id: CourseOption = None,
) -> None:
    """The live instructions of an assignment or a course."""
    scope = arguments.scope_of(assignment_id, course_id)
    response = api.call(f"get the instructions of {scope}", "GET", ROUTE, *scope.path)
    api.show(response, TITLE, READ_FIELDS)
    if not api.as_json:
        show_text(TITLE, response.document["instructions_text"])


@instructions_app.command()
@uses_api
def update(
    api: AdminApi,
    assignment_id: AssignmentOption = None,
    course_id: CourseOption = None,
    instructions_file: InstructionsFile = None,
    instructions_text: InstructionsText = None,
    student_prompt_storage_id: Annotated[
        str | None, typer.Option(help="Id of a stored text that becomes the student prompt.")
    ] = None,
    judge_rubric_storage_id: Annotated[
        str | None, typer.Option(help="Id of a stored text that becomes the judge rubric.")
    ] = None,
    if_version: IfVersion = None,
) -> None:
    """Change parts of the live instructions; the other parts stay as they are."""
    scope = arguments.scope_of(assignment_id, course_id)
    condition = arguments.condition_of(if_version)
    ids = {
        "student_prompt_storage_id": student_prompt_storage_id,
        "judge_rubric_storage_id": judge_rubric_storage_id,
    }
    body = {
        name: arguments.storage_id(name, value) for name, value in ids.items() if value is not None
    }
    if body and course_id is not None:
        raise Usage("a course has only instructions, no prompt and no rubric")
    texts = arguments.texts_of(instructions=(instructions_file, instructions_text))
    body |= {f"{name}_text": text for name, text in texts.items()}
    if not body:
        raise Usage("nothing to change: give instructions or a storage id")
    what = f"update the instructions of {scope}"
    response = api.call(what, "PATCH", ROUTE, *scope.path, body=body, condition=condition)
    api.show(response, TITLE, WRITE_FIELDS)


@instructions_app.command()
@uses_api
def delete(
    api: AdminApi,
    assignment_id: AssignmentOption = None,
    course_id: CourseOption = None,
    yes: Yes = False,
    if_version: IfVersion = None,
) -> None:
    """Delete the instructions and, for an assignment, its prompt and rubric; texts are kept for audit."""
    scope = arguments.scope_of(assignment_id, course_id)
    has_other_roles = assignment_id is not None
    assignment_etag = has_other_roles and (if_version or "").startswith("i")
    condition = arguments.condition_of(if_version, assignment_etag=assignment_etag)
    consequence = ", with its student prompt and its judge rubric" if has_other_roles else ""
    delete_role(api, INSTRUCTIONS, scope, consequence, condition, yes=yes)
