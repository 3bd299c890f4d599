"""`cjstream admin prompts …` and `rubrics …`: the same commands for two kinds of text."""

from dataclasses import dataclass
from typing import Annotated

import typer

from tools.admin.options import (
    BASE_URL,
    AssignmentId,
    BaseUrl,
    IfVersion,
    Json,
    PromptFile,
    PromptText,
    RubricFile,
    RubricText,
    Timeout,
    Yes,
)


@dataclass(frozen=True, slots=True)
class TextKind:
    """One kind of text: its name in options and fields (`prompt`, `rubric`), its role and its route."""

    name: str
    role: str
    route: str

    @property
    def label(self) -> str:
        """The role as words for people."""
        return self.role.replace("_", " ")

    @property
    def storage_field(self) -> str:
        """The field of its storage id in documents."""
        return f"{self.role}_storage_id"


PROMPT = TextKind("prompt", "student_prompt", "student-prompts")
RUBRIC = TextKind("rubric", "judge_rubric", "judge-rubrics")
READ_FIELDS = (
    "version",
    "size_bytes",
    "grade_scale",
    "created_at",
    "updated_at",
    "updated_by",
    "source",
)
RequiredAssignmentId = Annotated[str, typer.Option("--assignment-id", help="Id of the assignment.")]
OutputFile = Annotated[
    str | None,
    typer.Option(help="Write exactly the text to this file, and only the other fields to stdout."),
]

prompts_app = typer.Typer(
    help="Student prompts: the task that students were given.", no_args_is_help=True
)
rubrics_app = typer.Typer(help="Judge rubrics: how the judge weighs essays.", no_args_is_help=True)


@prompts_app.command("upload")
def upload_prompt(
    assignment_id: RequiredAssignmentId,
    prompt_file: PromptFile = None,
    prompt_text: PromptText = None,
    if_version: IfVersion = None,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Set or replace an assignment's student prompt."""
    source = (prompt_file, prompt_text)
    _upload(PROMPT, assignment_id, source, if_version, base_url, timeout, as_json)


@rubrics_app.command("upload")
def upload_rubric(
    assignment_id: RequiredAssignmentId,
    rubric_file: RubricFile = None,
    rubric_text: RubricText = None,
    if_version: IfVersion = None,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Set or replace an assignment's judge rubric."""
    source = (rubric_file, rubric_text)
    _upload(RUBRIC, assignment_id, source, if_version, base_url, timeout, as_json)


def _upload(
    kind: TextKind,
    assignment_id: str,
    source: tuple[str | None, str | None],
    if_version: str | None,
    base_url: str,
    timeout: float,
    as_json: bool,
) -> None:
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.failures import Usage
    from tools.admin.output import show_response

    scope = arguments.scope_of(assignment_id, None)
    condition = arguments.condition_of(if_version)
    if source == (None, None):
        raise Usage(f"give one of --{kind.name}-file and --{kind.name}-text")
    texts = arguments.texts_of(**{kind.name: source})
    response = AdminApi.from_environment(base_url, timeout).call(
        f"upload the {kind.label} of {arguments.describe_scope(scope)}",
        "POST",
        kind.route,
        body={**scope, f"{kind.name}_text": texts[kind.name]},
        condition=condition,
    )
    fields = ("outcome", "assignment_id", kind.storage_field, "version", "position")
    show_response(response, kind.label.capitalize(), fields, as_json=as_json)


def _add_get_and_delete(app: typer.Typer, kind: TextKind) -> None:
    @app.command(help=f"The live {kind.label} of an assignment: its metadata, then its text.")
    def get(
        assignment_id: AssignmentId,
        output_file: OutputFile = None,
        base_url: BaseUrl = BASE_URL,
        timeout: Timeout = 30,
        as_json: Json = False,
    ) -> None:
        _get(kind, assignment_id, output_file, base_url, timeout, as_json)

    @app.command(help=f"Delete the {kind.label} of an assignment; its text is kept for audit.")
    def delete(
        assignment_id: AssignmentId,
        yes: Yes = False,
        if_version: IfVersion = None,
        base_url: BaseUrl = BASE_URL,
        timeout: Timeout = 30,
        as_json: Json = False,
    ) -> None:
        _delete(kind, assignment_id, yes, if_version, base_url, timeout, as_json)


def _get(
    kind: TextKind,
    assignment_id: str,
    output_file: str | None,
    base_url: str,
    timeout: float,
    as_json: bool,
) -> None:
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.files import write_exactly
    from tools.admin.output import show_response, show_text

    scope = arguments.scope_of(assignment_id, None)
    operation = f"get the {kind.label} of {arguments.describe_scope(scope)}"
    response = AdminApi.from_environment(base_url, timeout).call(
        operation, "GET", kind.route, *arguments.path_of(scope)
    )
    text: str = response.document[f"{kind.name}_text"]
    if output_file is not None:
        write_exactly(output_file, text)
    fields = ("assignment_id", kind.storage_field, *READ_FIELDS)
    show_response(response, kind.label.capitalize(), fields, as_json=as_json)
    if output_file is None and not as_json:
        show_text(kind.label.capitalize(), text)


def _delete(
    kind: TextKind,
    assignment_id: str,
    yes: bool,
    if_version: str | None,
    base_url: str,
    timeout: float,
    as_json: bool,
) -> None:
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.output import confirm, show_response

    scope = arguments.scope_of(assignment_id, None)
    condition = arguments.condition_of(if_version)
    api = AdminApi.from_environment(base_url, timeout)
    confirm(
        f"This deletes the {kind.label} of {arguments.describe_scope(scope)}; its instructions stay.",
        yes=yes,
    )
    operation = f"delete the {kind.label} of {arguments.describe_scope(scope)}"
    response = api.call(
        operation, "DELETE", kind.route, *arguments.path_of(scope), condition=condition
    )
    fields = ("status", "assignment_id", "deleted", "position")
    show_response(response, kind.label.capitalize(), fields, as_json=as_json)


_add_get_and_delete(prompts_app, PROMPT)
_add_get_and_delete(rubrics_app, RUBRIC)
