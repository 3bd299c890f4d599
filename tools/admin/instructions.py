"""`cjstream admin instructions …`."""

import sys
from typing import Annotated, Any

import typer

from tools.admin.options import (
    BASE_URL,
    AssignmentOption,
    BaseUrl,
    CourseOption,
    IfVersion,
    InstructionsFile,
    InstructionsText,
    Json,
    PromptFile,
    PromptText,
    RubricFile,
    RubricText,
    Timeout,
    Yes,
)

ROUTE = "assessment-instructions"
COLUMNS = ("scope", "scale", "prompt", "rubric", "ready", "version", "updated", "by")
STORAGE_IDS = ("storage_id", "student_prompt_storage_id", "judge_rubric_storage_id")
FIELDS = ("scope_key", "grade_scale", "context_origin", "version", *STORAGE_IDS)
READ_FIELDS = (*FIELDS, "created_at", "updated_at", "updated_by", "source", "readiness")
WRITE_FIELDS = ("outcome", *FIELDS, "position")
ASSIGNMENT_WRITE_FIELDS = ("outcome", "assignment_id", "outcomes", "tag", "position")

instructions_app = typer.Typer(help="Assessment instructions.", no_args_is_help=True)


@instructions_app.command()
def create(
    grade_scale: Annotated[str, typer.Option(help="Id of a grade scale: see `scales list`.")],
    assignment_id: AssignmentOption = None,
    course_id: CourseOption = None,
    instructions_file: InstructionsFile = None,
    instructions_text: InstructionsText = None,
    prompt_file: PromptFile = None,
    prompt_text: PromptText = None,
    rubric_file: RubricFile = None,
    rubric_text: RubricText = None,
    context_origin: Annotated[
        str | None,
        typer.Option(help="Where the assignment comes from, such as research_experiment."),
    ] = None,
    create_only: Annotated[
        bool, typer.Option("--create-only", help="Only if nothing is live yet.")
    ] = False,
    if_version: IfVersion = None,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Create or replace instructions; a prompt and a rubric are written with them, all or nothing."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.failures import Usage
    from tools.admin.output import show_response
    from tools.progress import say

    scope = arguments.scope_of(assignment_id, course_id)
    other_sources = (prompt_file, prompt_text, rubric_file, rubric_text)
    has_other_texts = any(source is not None for source in other_sources)
    if has_other_texts and course_id is not None:
        raise Usage("a course has only instructions, no prompt and no rubric")
    body = {**scope, "grade_scale": arguments.scale(grade_scale)}
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
    response = AdminApi.from_environment(base_url, timeout).call(
        f"create the instructions of {arguments.describe_scope(scope)}",
        "POST",
        "assignments" if has_other_texts else ROUTE,
        body=body,
        condition=condition,
    )
    fields = ASSIGNMENT_WRITE_FIELDS if has_other_texts else WRITE_FIELDS
    show_response(response, "Instructions", fields, as_json=as_json)


@instructions_app.command("list")
def list_all(
    grade_scale: Annotated[
        str | None, typer.Option(help="Only instructions with this grade scale.")
    ] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    page_size: Annotated[int, typer.Option(min=1, max=200)] = 20,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Live instructions, newest first."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.output import show_rows
    from tools.printing import print_json

    query: dict[str, Any] = {"page": page, "page_size": page_size}
    if grade_scale is not None:
        query["grade_scale"] = arguments.scale(grade_scale)
    response = AdminApi.from_environment(base_url, timeout).call(
        "list the instructions", "GET", ROUTE, query=query
    )
    if as_json:
        print_json(response.document)
        return
    items = response.document["items"]
    title = f"Instructions, page {page}: {len(items)} of {response.document['total']}"
    show_rows(title, COLUMNS, [row_of(item) for item in items])


def row_of(item: dict[str, Any]) -> tuple[str, ...]:
    """An item of the list as a table row."""
    from tools.admin.output import cell

    readiness = item.get("readiness") or {}
    return (
        item["scope_key"],
        item["grade_scale"],
        cell(readiness.get("has_student_prompt")),
        cell(readiness.get("has_judge_rubric")),
        cell(readiness.get("ready")),
        cell(item["version"]),
        item["updated_at"],
        item["updated_by"],
    )


@instructions_app.command()
def get(
    assignment_id: Annotated[str | None, typer.Argument(help="Id of the assignment.")] = None,
    course_id: CourseOption = None,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """The live instructions of an assignment or a course."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.output import show_response, show_text

    scope = arguments.scope_of(assignment_id, course_id)
    operation = f"get the instructions of {arguments.describe_scope(scope)}"
    response = AdminApi.from_environment(base_url, timeout).call(
        operation, "GET", ROUTE, *arguments.path_of(scope)
    )
    show_response(response, "Instructions", READ_FIELDS, as_json=as_json)
    if not as_json:
        show_text("Instructions", response.document["instructions_text"])


@instructions_app.command()
def update(
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
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Change parts of the live instructions; the other parts stay as they are."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.failures import Usage
    from tools.admin.output import show_response

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
    response = AdminApi.from_environment(base_url, timeout).call(
        f"update the instructions of {arguments.describe_scope(scope)}",
        "PATCH",
        ROUTE,
        *arguments.path_of(scope),
        body=body,
        condition=condition,
    )
    show_response(response, "Instructions", WRITE_FIELDS, as_json=as_json)


@instructions_app.command()
def delete(
    assignment_id: AssignmentOption = None,
    course_id: CourseOption = None,
    yes: Yes = False,
    if_version: IfVersion = None,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Delete the instructions and, for an assignment, its prompt and rubric; texts are kept for audit."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.output import confirm, show_response

    scope = arguments.scope_of(assignment_id, course_id)
    assignment_etag = assignment_id is not None and (if_version or "").startswith("i")
    condition = arguments.condition_of(if_version, assignment_etag=assignment_etag)
    api = AdminApi.from_environment(base_url, timeout)
    other_roles = (
        ", with its student prompt and its judge rubric" if assignment_id is not None else ""
    )
    confirm(
        f"This deletes the instructions of {arguments.describe_scope(scope)}{other_roles}.", yes=yes
    )
    operation = f"delete the instructions of {arguments.describe_scope(scope)}"
    response = api.call(operation, "DELETE", ROUTE, *arguments.path_of(scope), condition=condition)
    fields = ("status", *scope, "deleted", "position")
    show_response(response, "Instructions", fields, as_json=as_json)
