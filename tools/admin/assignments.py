"""`cjstream admin assignments …`."""

from typing import Annotated, Any

import typer

from tools.admin.options import BASE_URL, AssignmentId, BaseUrl, Json, Timeout

ROLES = ("instructions", "student_prompt", "judge_rubric")
COLUMNS = ("role", "state", "version", "updated", "by", "source", "storage id")

assignments_app = typer.Typer(help="Assignments as a whole.", no_args_is_help=True)


@assignments_app.callback()
def assignments() -> None:
    """Assignments as a whole."""


@assignments_app.command()
def show(
    assignment_id: AssignmentId,
    as_of: Annotated[
        str | None,
        typer.Option(
            help="As it stood: 2026-03-01T12:00:00Z, a time ago as 2h, or right after topic/partition@offset."
        ),
    ] = None,
    no_texts: Annotated[bool, typer.Option("--no-texts", help="Leave the texts out.")] = False,
    require_ready: Annotated[
        bool, typer.Option("--require-ready", help="Exit 3 where it is not ready to be judged.")
    ] = False,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """The whole context of an assignment, now or at a moment, with the coordinates of what it rests on."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.printing import print_json
    from tools.progress import say

    scope = arguments.scope_of(assignment_id, None)
    arguments.refuse_no_moment(as_of)
    answer = AdminApi.at(base_url, timeout).call(
        f"show {arguments.told(scope)}",
        "GET",
        "assignments",
        scope["assignment_id"],
        query={
            **({"texts": "false"} if no_texts else {}),
            **({} if as_of is None else {"as_of": as_of}),
        },
    )
    readiness = answer.document["readiness"]
    if as_json:
        print_json(answer.document)
    else:
        _show(answer.document)
    if require_ready and not readiness["ready"]:
        say(f"cjstream: not ready: missing {', '.join(readiness['missing'])}")
        raise typer.Exit(3)


@assignments_app.command()
def history(
    assignment_id: AssignmentId,
    page: Annotated[int, typer.Option(min=1, help="Which page.")] = 1,
    page_size: Annotated[int, typer.Option(min=1, max=200, help="Versions on a page.")] = 20,
    base_url: BaseUrl = BASE_URL,
    timeout: Timeout = 30,
    as_json: Json = False,
) -> None:
    """Every version of every role, newest first; exit 3 where some are known to be missing."""
    from tools.admin import arguments
    from tools.admin.api import AdminApi
    from tools.admin.output import show_rows
    from tools.printing import print_json
    from tools.progress import say

    scope = arguments.scope_of(assignment_id, None)
    answer = AdminApi.at(base_url, timeout).call(
        f"history of {arguments.told(scope)}",
        "GET",
        "assignments",
        scope["assignment_id"],
        "history",
        query={"page": page, "page_size": page_size},
    )
    if as_json:
        print_json(answer.document)
    else:
        rows = [_row_of(one["role"], one) for one in answer.document["items"]]
        show_rows("History", COLUMNS, rows)
    for gap in answer.document["gaps"]:
        say(f"cjstream: {gap['role']} after version {gap['after_version']}: {gap['reason']}")
    if not answer.document["complete"]:
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
    there = {role: document[role] for role in ROLES if document[role] is not None}
    show_rows("Context", COLUMNS, [_row_of(role, it) for role, it in there.items()])
    for role, component in there.items():
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
