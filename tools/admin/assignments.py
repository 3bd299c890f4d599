"""`cjstream admin assignments …`."""

from typing import Annotated, Any

import typer

from tools.admin.options import BASE_URL, AssignmentId, BaseUrl, Json, Timeout

ROLES = ("instructions", "student_prompt", "judge_rubric")
COLUMNS = ("role", "state", "version", "updated", "by", "source", "storage id")

assignments_app = typer.Typer(
    help="Whole assignments: instructions, student prompt and judge rubric.", no_args_is_help=True
)


@assignments_app.callback()
def assignments() -> None:
    """Whole assignments: instructions, student prompt and judge rubric."""


@assignments_app.command()
def show(
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
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """The full context of an assignment, now or as of a point in time, with the coordinates of its sources."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.printing import print_json
    from tools.progress import say

    scope = arguments.scope_of(assignment_id, None)
    arguments.check_as_of(as_of)
    response = AdminApi.from_environment(base_url, timeout).call(
        f"show {arguments.describe_scope(scope)}",
        "GET",
        "assignments",
        scope["assignment_id"],
        query={
            **({"texts": "false"} if no_texts else {}),
            **({} if as_of is None else {"as_of": as_of}),
        },
    )
    readiness = response.document["readiness"]
    if as_json:
        print_json(response.document)
    else:
        _show(response.document)
    if require_ready and not readiness["ready"]:
        say(f"cjstream: not ready: missing {', '.join(readiness['missing'])}")
        raise typer.Exit(3)


@assignments_app.command()
def history(
    assignment_id: AssignmentId,
    page: Annotated[int, typer.Option(min=1, help="Page number.")] = 1,
    page_size: Annotated[int, typer.Option(min=1, max=200, help="Versions per page.")] = 20,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Every version of every role, newest first; exits with 3 if versions are known to be missing."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.output import show_rows
    from tools.printing import print_json
    from tools.progress import say

    scope = arguments.scope_of(assignment_id, None)
    response = AdminApi.from_environment(base_url, timeout).call(
        f"history of {arguments.describe_scope(scope)}",
        "GET",
        "assignments",
        scope["assignment_id"],
        "history",
        query={"page": page, "page_size": page_size},
    )
    if as_json:
        print_json(response.document)
    else:
        rows = [_row_of(item["role"], item) for item in response.document["items"]]
        show_rows("History", COLUMNS, rows)
    for gap in response.document["gaps"]:
        say(f"cjstream: {gap['role']} after version {gap['after_version']}: {gap['reason']}")
    if not response.document["complete"]:
        raise typer.Exit(3)


def _show(document: dict[str, Any]) -> None:
    from tools.admin.output import show_pairs, show_rows, show_text

    readiness = document["readiness"]
    pairs = {
        "assignment_id": document["assignment_id"],
        "tag": document["tag"],
        "ready": readiness["ready"],
        "missing": readiness["missing"],
        "warnings": readiness["warnings"],
    }
    if document["instructions"] is not None:
        pairs["grade_scale"] = document["instructions"].get("grade_scale")
        pairs["context_origin"] = document["instructions"].get("context_origin")
    show_pairs("Assignment", pairs)
    components = {role: document[role] for role in ROLES if document[role] is not None}
    show_rows(
        "Context", COLUMNS, [_row_of(role, component) for role, component in components.items()]
    )
    for role, component in components.items():
        if component.get("text") is not None:
            show_text(role.replace("_", " ").capitalize(), component["text"])


def _row_of(role: str, component: dict[str, Any]) -> tuple[str, ...]:
    from tools.admin.output import cell

    return (
        role.replace("_", " "),
        "deleted" if component["deleted"] else "live",
        cell(component["version"]),
        cell(component["occurred_at"]),
        cell(component["actor"]),
        cell(component["source"]),
        cell(component.get("storage_id")),
    )
