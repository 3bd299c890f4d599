"""`cjstream admin anchors …`: the anchors of an assignment, essays whose grades experts gave."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.scales import get_scale, is_grade
from tools.admin import arguments
from tools.admin.api import AdminApi
from tools.admin.arguments import Scope
from tools.admin.failures import Usage
from tools.admin.options import AssignmentId, CreateOnly, IfVersion, Yes, uses_api
from tools.admin.output import confirm, show_rows
from tools.printing import print_json
from tools.progress import say

ROUTE = "anchors"
AT_ONCE = 10
COUNTS = ("grade_scale", "anchor_count", "anchor_count_total", "anchor_count_by_scale")
WRITTEN = ("outcome", "assignment_id", *COUNTS, "tag", "position")
COLUMNS = ("anchor", "grade", "bytes", "storage id")
Assignment = Annotated[str, typer.Option("--assignment-id", help="Id of the assignment.")]
Scale = Annotated[
    str | None,
    typer.Option(
        "--grade-scale",
        help="Grade scale of the anchors. By default that of the live instructions.",
    ),
]
AnchorOption = Annotated[
    str, typer.Option("--anchor-id", help="Id of the anchor, once in a grade scale.")
]
OneAnchor = Annotated[
    str | None, typer.Option("--anchor-id", help="Only this anchor. By default all of the scale.")
]

anchors_app = typer.Typer(
    help="Anchors: essays whose grades experts gave; with them, a run gives grades.",
    no_args_is_help=True,
)


@anchors_app.command()
@uses_api
def upload(
    api: AdminApi,
    assignment_id: Assignment,
    anchor_id: AnchorOption,
    grade: Annotated[str, typer.Option("--grade", help="Its grade, one of the grade scale.")],
    file: Annotated[
        str | None, typer.Option("--essay-file", help="File with the essay, - for stdin.")
    ] = None,
    text: Annotated[str | None, typer.Option("--essay-text", help="Text of the essay.")] = None,
    grade_scale: Scale = None,
    create_only: CreateOnly = False,
    if_version: IfVersion = None,
) -> None:
    """Add an anchor, or replace the one that has its id in its grade scale."""
    scope = arguments.scope_of(assignment_id, None)
    condition = arguments.condition_of(if_version, create_only=create_only)
    if file is None and text is None:
        raise Usage("give one of --essay-file and --essay-text")
    query = _query(grade_scale)
    if grade_scale is not None and not is_grade(query["grade_scale"], grade):
        raise Usage(f"--grade: the grades are {_grades(query['grade_scale'])}")
    body = {
        **scope.fields,
        **query,
        "anchor_id": arguments.checked("anchor_id", anchor_id),
        "grade": grade,
        "essay_text": arguments.texts_of(essay=(file, text))["essay"],
    }
    response = api.call(
        f"upload an anchor of {scope}", "POST", ROUTE, body=body, condition=condition
    )
    api.show(response, "Anchors", WRITTEN)


@anchors_app.command("import")
@uses_api
def import_anchors(
    api: AdminApi,
    assignment_id: Assignment,
    folder: Annotated[
        Path, typer.Option("--dir", help="Folder with one file for each anchor: .docx or .txt.")
    ],
    grades: Annotated[
        Path,
        typer.Option("--grades", help="CSV file with the columns anchor_id and grade."),
    ],
    grade_scale: Scale = None,
    create_only: CreateOnly = False,
    if_version: IfVersion = None,
) -> None:
    """Replace all anchors of a grade scale by the files of a folder, whose grades are in a CSV file.

    An anchor's id is the name of its file in lower case, without suffix. Exits with 3, and changes nothing, if a file
    has no row, a row no file, or a file no readable text; every such fault is named.
    """
    # as research runs read them; only here: it takes longer than other commands
    from tools.runner.inventory import FaultyInputs, take_anchors

    scope = arguments.scope_of(assignment_id, None)
    condition = arguments.condition_of(if_version, create_only=create_only)
    scale = _query(grade_scale).get("grade_scale") or _live_scale(api, scope)
    try:
        inventory = take_anchors(folder, grades, scale)
    except FaultyInputs as fault:
        for line in fault.lines:
            say(line)
        raise
    for skipped in inventory.skipped:
        say(f"skipped: {skipped.file_name}: {skipped.reason}")
    anchors = [
        {"anchor_id": one.id, "grade": one.grade, "storage_id": one.storage_id}
        for one in inventory.texts
    ]
    _store(api, [one.text for one in inventory.texts])
    response = api.call(
        f"import the anchors of {scope}",
        "PUT",
        ROUTE,
        *scope.path,
        body={"anchors": anchors},
        query={"grade_scale": scale},
        condition=condition,
    )
    api.show(response, "Anchors", WRITTEN)


@anchors_app.command("list")
@uses_api
def list_anchors(api: AdminApi, assignment_id: AssignmentId, grade_scale: Scale = None) -> None:
    """The live anchors of one grade scale, and how many there are of each."""
    scope, query = arguments.scope_of(assignment_id, None), _query(grade_scale)
    response = api.call(f"list the anchors of {scope}", "GET", ROUTE, *scope.path, query=query)
    if api.as_json:
        print_json(response.document)
        return
    api.show(response, "Anchors", ("assignment_id", *COUNTS, "tag", "updated_at", "updated_by"))
    show_rows("", COLUMNS, [_row(one) for one in response.document["anchors"]])


@anchors_app.command()
@uses_api
def delete(
    api: AdminApi,
    assignment_id: AssignmentId,
    anchor_id: OneAnchor = None,
    grade_scale: Scale = None,
    yes: Yes = False,
    if_version: IfVersion = None,
) -> None:
    """Delete one anchor or all of a grade scale; their texts are kept for audit."""
    scope, query = arguments.scope_of(assignment_id, None), _query(grade_scale)
    condition = arguments.condition_of(if_version)
    one = () if anchor_id is None else (arguments.checked("anchor_id", anchor_id),)
    what = f"{'the anchor ' + one[0] if one else 'the anchors'} of {scope}"
    of_scale = query.get("grade_scale", "the grade scale of its instructions")
    confirm(f"This deletes {what} in {of_scale}.", yes=yes)
    response = api.call(
        f"delete {what}", "DELETE", ROUTE, *scope.path, *one, query=query, condition=condition
    )
    api.show(response, "Anchors", WRITTEN)


def _query(grade_scale: str | None) -> dict[str, str]:
    return {} if grade_scale is None else {"grade_scale": arguments.scale(grade_scale)}


def _grades(scale_id: str) -> str:
    scale = get_scale(scale_id)
    below = (scale.below_lowest_grade,) if scale.below_lowest_grade else ()
    return ", ".join((*below, *scale.grades))


def _live_scale(api: AdminApi, scope: Scope) -> str:
    """The grade scale of the live instructions. Raises Refused if there are none."""
    path = ("assessment-instructions", *scope.path)
    document: Mapping[str, Any] = api.call(
        f"read the instructions of {scope}", "GET", *path
    ).document
    return str(document["grade_scale"])


def _store(api: AdminApi, texts: list[bytes]) -> None:
    """Store the texts, a few at a time. Raises CJStreamError."""
    from processors.http_clients import http_client
    from tools.runner.content_client import content_client

    with http_client(api.base_url) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        contents = content_client(api, client)
        try:
            list(pool.map(contents.store, texts))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _row(anchor: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        anchor["anchor_id"],
        anchor["grade"],
        str(anchor["size_bytes"]),
        anchor["storage_id"],
    )
