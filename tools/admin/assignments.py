"""`cjstream admin assignments …`."""

from typing import Annotated, Any

import typer

from schemas.events import ADMINISTERED_ROLES
from tools.admin import arguments
from tools.admin.api import AdminApi
from tools.admin.options import AssignmentId, uses_api
from tools.admin.output import cell, show_pairs, show_rows, show_text
from tools.printing import print_json
from tools.progress import say

COLUMNS = ("role", "state", "version", "updated", "by", "source", "storage id")

assignments_app = typer.Typer(
    help="Whole assignments: instructions, student prompt and judge rubric.", no_args_is_help=True
)


@assignments_app.command()
@uses_api
def show(
    api: AdminApi,
    assignment_id: AssignmentId,
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Show the state at 2026-03-01T12:00:00Z, at 2h (two hours ago) or after topic/partition@offset."
        ),
    ] = None,
    no_texts: Annotated[bool, typer.Option("--no-texts", help="Do not show the texts.")] = False,
    require_ready: Annotated[
        bool,
        typer.Option(
            "--require-ready", help="Exit with 3 if the assignment is not ready for judging."
        ),
    ] = False,
) -> None:
    """The full context of an assignment, now or as of a point in time, with the coordinates of its sources."""
    scope = arguments.scope_of(assignment_id, None)
    arguments.check_as_of(as_of)
    query = {"texts": "false"} if no_texts else {}
    query |= {} if as_of is None else {"as_of": as_of}
    document = api.call(f"show {scope}", "GET", "assignments", scope.id, query=query).document
    if api.as_json:
        print_json(document)
    else:
        _show(document)
    readiness = document["readiness"]
    if require_ready and not readiness["ready"]:
        say(f"cjstream: not ready: missing {', '.join(readiness['missing'])}")
        raise typer.Exit(3)


@assignments_app.command()
@uses_api
def history(
    api: AdminApi,
    assignment_id: AssignmentId,
    page: Annotated[int, typer.Option(min=1, help="Page number.")] = 1,
    page_size: Annotated[int, typer.Option(min=1, max=200, help="Versions per page.")] = 20,
) -> None:
    """Every version of every role, newest first; exits with 3 if versions are known to be missing."""
    scope = arguments.scope_of(assignment_id, None)
    query = {"page": page, "page_size": page_size}
    operation, path = f"history of {scope}", ("assignments", scope.id, "history")
    document = api.call(operation, "GET", *path, query=query).document
    if api.as_json:
        print_json(document)
    else:
        rows = [_row_of(item["role"], item) for item in document["items"]]
        show_rows("History", COLUMNS, rows)
    for gap in document["gaps"]:
        say(f"cjstream: {gap['role']} after version {gap['after_version']}: {gap['reason']}")
    if not document["complete"]:
        raise typer.Exit(3)


def _show(document: dict[str, Any]) -> None:
    pairs = {name: document[name] for name in ("assignment_id", "tag")}
    pairs |= {name: document["readiness"][name] for name in ("ready", "missing", "warnings")}
    if document["instructions"] is not None:
        for name in ("grade_scale", "context_origin"):
            pairs[name] = document["instructions"].get(name)
    show_pairs("Assignment", pairs)
    components = {
        role: document[role] for role in ADMINISTERED_ROLES if document.get(role) is not None
    }
    show_rows(
        "Context", COLUMNS, [_row_of(role, component) for role, component in components.items()]
    )
    for role, component in components.items():
        title = role.replace("_", " ")
        if component.get("text") is not None:
            show_text(title.capitalize(), component["text"])
        elif (state := component.get("text_state")) is not None:
            say(f"cjstream: the text of the {title} cannot be shown: {state}")


def _row_of(role: str, component: dict[str, Any]) -> tuple[str, ...]:
    fields = ("version", "occurred_at", "actor", "source", "storage_id")
    return (
        role.replace("_", " "),
        "deleted" if component["deleted"] else "live",
        *(cell(component.get(name)) for name in fields),
    )
