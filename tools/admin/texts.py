"""`cjstream admin prompts …` and `rubrics …`: the same commands for two roles; `instructions` shares some of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from tools.admin import arguments
from tools.admin.api import AdminApi
from tools.admin.arguments import Scope
from tools.admin.failures import Usage
from tools.admin.files import write_exactly
from tools.admin.options import AssignmentId, CreateOnly, IfVersion, Yes, uses_api
from tools.admin.output import confirm, show_text


@dataclass(frozen=True, slots=True)
class Role:
    """One role: its name in options and fields, such as `prompt`, its words for people, and its route."""

    name: str
    label: str
    route: str

    @property
    def title(self) -> str:
        """Its words as a heading."""
        return self.label.capitalize()


INSTRUCTIONS = Role("instructions", "instructions", "assessment-instructions")
PROMPT = Role("prompt", "student prompt", "student-prompts")
RUBRIC = Role("rubric", "judge rubric", "judge-rubrics")
TIMES = ("created_at", "updated_at", "updated_by")
READ_FIELDS = ("version", "size_bytes", "grade_scale", *TIMES, "source")
OutputFile = Annotated[
    str | None,
    typer.Option(help="Write exactly the text to this file, and only the other fields to stdout."),
]

prompts_app = typer.Typer(
    help="Student prompts: the task that students were given.", no_args_is_help=True
)
rubrics_app = typer.Typer(help="Judge rubrics: how the judge weighs essays.", no_args_is_help=True)


def file_option(role: Role) -> typer.models.OptionInfo:
    """The option for a file with the text of a role."""
    help_text = f"File with the {role.label}, - for stdin."
    option: typer.models.OptionInfo = typer.Option(f"--{role.name}-file", help=help_text)
    return option


def text_option(role: Role) -> typer.models.OptionInfo:
    """The option for the text of a role."""
    help_text = f"Text of the {role.label}."
    option: typer.models.OptionInfo = typer.Option(f"--{role.name}-text", help=help_text)
    return option


def delete_role(
    api: AdminApi,
    role: Role,
    scope: Scope,
    consequence: str,
    condition: Mapping[str, str],
    *,
    yes: bool,
) -> None:
    """Delete a role at a scope, after a confirmation that names the consequence."""
    what = f"the {role.label} of {scope}"
    confirm(f"This deletes {what}{consequence}.", yes=yes)
    response = api.call(f"delete {what}", "DELETE", role.route, *scope.path, condition=condition)
    api.show(response, role.title, ("status", scope.field, "deleted", "position"))


def _add_commands(app: typer.Typer, role: Role) -> None:
    storage_field = f"{role.label.replace(' ', '_')}_storage_id"

    @app.command(help=f"Set or replace an assignment's {role.label}.")
    @uses_api
    def upload(
        api: AdminApi,
        assignment_id: Annotated[
            str, typer.Option("--assignment-id", help="Id of the assignment.")
        ],
        file: Annotated[str | None, file_option(role)] = None,
        text: Annotated[str | None, text_option(role)] = None,
        create_only: CreateOnly = False,
        if_version: IfVersion = None,
    ) -> None:
        scope = arguments.scope_of(assignment_id, None)
        condition = arguments.condition_of(if_version, create_only=create_only)
        if file is None and text is None:
            raise Usage(f"give one of --{role.name}-file and --{role.name}-text")
        texts = arguments.texts_of(**{role.name: (file, text)})
        response = api.call(
            f"upload the {role.label} of {scope}",
            "POST",
            role.route,
            body={**scope.fields, f"{role.name}_text": texts[role.name]},
            condition=condition,
        )
        fields = ("outcome", "assignment_id", storage_field, "version", "position")
        api.show(response, role.title, fields)

    @app.command(help=f"The live {role.label} of an assignment: its metadata, then its text.")
    @uses_api
    def get(api: AdminApi, assignment_id: AssignmentId, output_file: OutputFile = None) -> None:
        scope = arguments.scope_of(assignment_id, None)
        response = api.call(f"get the {role.label} of {scope}", "GET", role.route, *scope.path)
        text: str = response.document[f"{role.name}_text"]
        if output_file is not None:
            write_exactly(output_file, text)
        api.show(response, role.title, ("assignment_id", storage_field, *READ_FIELDS))
        if output_file is None and not api.as_json:
            show_text(role.title, text)

    @app.command(help=f"Delete the {role.label} of an assignment; its text is kept for audit.")
    @uses_api
    def delete(
        api: AdminApi, assignment_id: AssignmentId, yes: Yes = False, if_version: IfVersion = None
    ) -> None:
        scope = arguments.scope_of(assignment_id, None)
        condition = arguments.condition_of(if_version)
        delete_role(api, role, scope, "; its instructions stay", condition, yes=yes)


_add_commands(prompts_app, PROMPT)
_add_commands(rubrics_app, RUBRIC)
