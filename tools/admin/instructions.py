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
OF_A_READ = (*FIELDS, "created_at", "updated_at", "updated_by", "source", "readiness")
OF_A_WRITE = ("outcome", *FIELDS, "position")
OF_AN_ASSIGNMENT = ("outcome", "assignment_id", "outcomes", "tag", "position")

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
        str | None, typer.Option(help="Where the assignment comes from: research_experiment.")
    ] = None,
    create_only: Annotated[
        bool, typer.Option("--create-only", help="Only where nothing is live.")
    ] = False,
    if_version: IfVersion = None,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Create or replace instructions; with a prompt or a rubric all of it at once, or nothing."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.failures import Usage
    from tools.admin.output import show_answer
    from tools.progress import say

    scope = arguments.scope_of(assignment_id, course_id)
    extras = (prompt_file, prompt_text, rubric_file, rubric_text)
    has_more = any(source is not None for source in extras)
    if has_more and course_id is not None:
        raise Usage("a course has instructions only, no prompt and no rubric")
    body = {**scope, "grade_scale": arguments.scale(grade_scale)}
    if context_origin is not None:
        body["context_origin"] = arguments.checked("context_origin", context_origin)
    condition = arguments.condition_of(if_version, create_only=create_only, of_assignment=has_more)
    if instructions_file is None and instructions_text is None:
        if not sys.stdin.isatty():
            raise Usage("one of --instructions-file and --instructions-text")
        say("Instructions, to the end of input (Ctrl-D):")
        instructions_file = "-"
    texts = arguments.texts_of(
        instructions=(instructions_file, instructions_text),
        prompt=(prompt_file, prompt_text),
        rubric=(rubric_file, rubric_text),
    )
    body |= {f"{name}_text": text for name, text in texts.items()}
    answer = AdminApi.at(base_url, timeout).call(
        f"create the instructions of {arguments.told(scope)}",
        "POST",
        "assignments" if has_more else ROUTE,
        body=body,
        condition=condition,
    )
    fields = OF_AN_ASSIGNMENT if has_more else OF_A_WRITE
    show_answer(answer, "Instructions", fields, as_json=as_json)


@instructions_app.command("list")
def list_all(
    grade_scale: Annotated[str | None, typer.Option(help="Of this grade scale only.")] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    page_size: Annotated[int, typer.Option(min=1, max=200)] = 20,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Live instructions, the newest first."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.output import show_rows
    from tools.printing import print_json

    query: dict[str, Any] = {"page": page, "page_size": page_size}
    if grade_scale is not None:
        query["grade_scale"] = arguments.scale(grade_scale)
    answer = AdminApi.at(base_url, timeout).call("list the instructions", "GET", ROUTE, query=query)
    if as_json:
        print_json(answer.document)
        return
    items = answer.document["items"]
    title = f"Instructions, page {page}: {len(items)} of {answer.document['total']}"
    show_rows(title, COLUMNS, [row_of(item) for item in items])


def row_of(item: dict[str, Any]) -> tuple[str, ...]:
    """One of the list as a row."""
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
    from tools.admin.output import show_answer, show_text

    scope = arguments.scope_of(assignment_id, course_id)
    what = f"get the instructions of {arguments.told(scope)}"
    answer = AdminApi.at(base_url, timeout).call(what, "GET", ROUTE, *arguments.path_of(scope))
    show_answer(answer, "Instructions", OF_A_READ, as_json=as_json)
    if not as_json:
        show_text("Instructions", answer.document["instructions_text"])


@instructions_app.command()
def update(
    assignment_id: AssignmentOption = None,
    course_id: CourseOption = None,
    instructions_file: InstructionsFile = None,
    instructions_text: InstructionsText = None,
    student_prompt_storage_id: Annotated[
        str | None, typer.Option(help="Of a stored text that becomes the student prompt.")
    ] = None,
    judge_rubric_storage_id: Annotated[
        str | None, typer.Option(help="Of a stored text that becomes the judge rubric.")
    ] = None,
    if_version: IfVersion = None,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Change some of what is live; what is not named stays."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.failures import Usage
    from tools.admin.output import show_answer

    scope = arguments.scope_of(assignment_id, course_id)
    condition = arguments.condition_of(if_version)
    ids = {
        "student_prompt_storage_id": student_prompt_storage_id,
        "judge_rubric_storage_id": judge_rubric_storage_id,
    }
    body = {name: arguments.storage_id(name, it) for name, it in ids.items() if it is not None}
    if body and course_id is not None:
        raise Usage("a course has instructions only, no prompt and no rubric")
    texts = arguments.texts_of(instructions=(instructions_file, instructions_text))
    body |= {f"{name}_text": text for name, text in texts.items()}
    if not body:
        raise Usage("nothing to change: give instructions or a storage id")
    answer = AdminApi.at(base_url, timeout).call(
        f"update the instructions of {arguments.told(scope)}",
        "PATCH",
        ROUTE,
        *arguments.path_of(scope),
        body=body,
        condition=condition,
    )
    show_answer(answer, "Instructions", OF_A_WRITE, as_json=as_json)


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
    """Delete the instructions and, of an assignment, its prompt and rubric; texts stay for audit."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.output import confirm, show_answer

    scope = arguments.scope_of(assignment_id, course_id)
    of_assignment = assignment_id is not None and (if_version or "").startswith("i")
    condition = arguments.condition_of(if_version, of_assignment=of_assignment)
    api = AdminApi.at(base_url, timeout)
    with_it = ", with its student prompt and its judge rubric" if assignment_id is not None else ""
    confirm(f"This deletes the instructions of {arguments.told(scope)}{with_it}.", yes=yes)
    what = f"delete the instructions of {arguments.told(scope)}"
    answer = api.call(what, "DELETE", ROUTE, *arguments.path_of(scope), condition=condition)
    fields = ("status", *scope, "deleted", "position")
    show_answer(answer, "Instructions", fields, as_json=as_json)
