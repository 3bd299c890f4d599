"""`cjstream admin import` and `export`: all assignments and courses from and to one file, through the API."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer

from schemas.errors import CJStreamError, Discrepancy
from tools.admin.api import AdminApi
from tools.admin.assignment_rows import Format, Row, encode_rows, format_of, rows_in
from tools.admin.failures import Refused
from tools.admin.files import write_exactly
from tools.admin.options import uses_api
from tools.admin.output import show_pairs
from tools.json_files import STDIN, name_of
from tools.printing import number_of, print_json
from tools.progress import bar, say

AT_ONCE = 16  # requests; the API answers at most 25 of one user at a time
PAGE = 200
LISTINGS = 5
OUTCOMES = ("created", "updated", "unchanged", "skipped", "refused")
ENDS_ALL = (401, 403, 404, 405)  # such a refusal is of the caller, not of the row
WRITTEN = {"created": "created", "replaced": "updated", "unchanged": "unchanged"}
TEXTS = {"student_prompt": "prompt_text", "judge_rubric": "rubric_text"}
File = Annotated[
    str, typer.Argument(metavar="FILE", help="CSV or JSON lines; - is standard input or output.")
]
FileFormat = Annotated[
    Format | None,
    typer.Option(
        "--format", help="By default that of the file's name: .jsonl, .ndjson, .json, else CSV."
    ),
]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row: one of OUTCOMES and, if it was refused, why."""

    row: Row
    outcome: str
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """A row of an export; `unreadable` has the state of each text of the row that cannot be read, by column."""

    scope_key: str
    values: dict[str, str]
    unreadable: dict[str, str]


@uses_api
def import_rows(
    api: AdminApi,
    file: File,
    form: FileFormat = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; report what would be done.")
    ] = False,
    create_only: Annotated[
        bool,
        typer.Option("--create-only", help="Skip assignments and courses that are live already."),
    ] = False,
) -> None:
    """Create or update the assignments and courses of a file; a null keeps what is live.

    Columns: assignment_id or course_id, grade_scale, context_origin, instructions_text, prompt_text, rubric_text, or
    storage ids in place of the last two. It is safe to run again: rows that change nothing are unchanged. Exits with
    1 if a line is refused.
    Example: `cjstream admin import assignments.csv --dry-run`
    """
    rows = rows_in(file, format_of(file, form))
    outcomes = list(_unsendable(rows))
    refused = {outcome.row.line for outcome in outcomes}
    sendable = [row for row in rows if row.line not in refused]
    with api.connected() as connected:
        decide = _preview if dry_run else _write
        outcomes += _each(
            sendable, lambda row: decide(connected, row, create_only=create_only), "importing"
        )
    _report(api, file, sorted(outcomes, key=lambda one: one.row.line), dry_run=dry_run)
    if any(outcome.outcome == "refused" for outcome in outcomes):
        raise typer.Exit(1)


@uses_api
def export_rows(api: AdminApi, file: File, form: FileFormat = None) -> None:
    """Write all live assignments and courses, with their texts, to a file that `import` reads.

    Exits with 3 if a text cannot be read: the file lacks its assignment, which is named, and has all others.
    Example: `cjstream admin export assignments.csv`
    """
    with api.connected() as connected:
        items = sorted(_live_instructions(connected), key=lambda item: str(item["scope_key"]))
        exported = _each(items, lambda item: _row_of(connected, item), "exporting")
    rows = [one.values for one in exported if not one.unreadable]
    lacking = [one for one in exported if one.unreadable]
    text = encode_rows(rows, format_of(file, form))
    if file == STDIN:
        sys.stdout.write(text)
    else:
        write_exactly(file, text)
        if api.as_json:
            named = [{"scope_key": one.scope_key, "unreadable": one.unreadable} for one in lacking]
            print_json({"file": file, "rows": len(rows), "lacking": named})
        else:
            say(f"{number_of(len(rows), 'row')} written to {file}")
    for one in lacking:
        states = ", ".join(f"{column} is {state}" for column, state in one.unreadable.items())
        say(f"{one.scope_key} is not in the file: {states}")
    if lacking:
        raise typer.Exit(Discrepancy.exit_code)


def _unsendable(rows: Sequence[Row]) -> Iterator[Outcome]:
    """The rows that break a rule of the API, or repeat another row's scope: one of them would overwrite the other."""
    from pydantic import ValidationError

    from tools.api.errors.validation_errors import faults_of

    first_lines: dict[str, int] = {}
    for row in rows:
        if row.fault:
            yield Outcome(row, "refused", (row.fault,))
            continue
        try:
            body = _checked(row)
        except ValidationError as fault:
            errors = fault.errors(include_url=False, include_input=True)
            found = faults_of({**error, "loc": ("body", *error["loc"])} for error in errors)
            faults = tuple(
                f"{one['location'].removeprefix('body/')} {one['message']}" for one in found
            )
            yield Outcome(row, "refused", faults)
            continue
        key = (
            f"assignment {body.assignment_id}" if body.assignment_id else f"course {body.course_id}"
        )
        if (line := first_lines.setdefault(key, row.line)) != row.line:
            yield Outcome(row, "refused", (f"the same {key.split()[0]} as in line {line}",))


def _checked(row: Row) -> Any:
    """The row as the API validates it: trimmed, ids in NFC. Raises ValidationError."""
    # the API's own models, imported only where they are used: they take longer than other commands
    from tools.api.requests.request_models import Instructions, NewAssignment

    model = NewAssignment if "assignment_id" in row.values else Instructions
    return model.model_validate(row.values)


def _write(api: AdminApi, row: Row, *, create_only: bool) -> Outcome:
    """Write one row; a refusal of the row is its outcome."""
    is_assignment = "assignment_id" in row.values
    try:
        response = api.call(
            f"import {row.scope}",
            "POST",
            "assignments" if is_assignment else "assessment-instructions",
            body=row.values,
            condition={"If-None-Match": "*"} if create_only else None,
        )
    except Refused as refusal:
        if create_only and refusal.status == 412:
            return Outcome(row, "skipped")
        return Outcome(row, "refused", _faults_of(refusal))
    return Outcome(row, WRITTEN[response.document["outcome"]])


def _faults_of(refusal: Refused) -> tuple[str, ...]:
    """Why a row was refused. Raises the refusal if it is not of the row alone."""
    if refusal.status in ENDS_ALL:
        raise refusal
    return tuple(refusal.field_errors) or (str(refusal),)


def _preview(api: AdminApi, row: Row, *, create_only: bool) -> Outcome:
    """What writing the row would do, from what is live now; storage ids are not looked up."""
    live, body = _live(api, row), _checked(row)
    if not live:
        return Outcome(row, "created")
    if create_only:
        return Outcome(row, "skipped")
    instructions = live.get("instructions", {})
    faults = tuple(
        f"{name} cannot change: it is {instructions[name]}"
        for name in ("grade_scale", "context_origin")
        if name in row.values and instructions and getattr(body, name) != instructions[name]
    )
    if faults:
        return Outcome(row, "refused", faults)
    is_same = instructions.get("text") == body.instructions_text
    for role, column in TEXTS.items():
        component = live.get(role, {})
        text, storage_id = getattr(body, column, None), getattr(body, f"{role}_storage_id")
        is_same &= not text or component.get("text") == text
        is_same &= not storage_id or component.get("storage_id") == storage_id
    return Outcome(row, "unchanged" if is_same else "updated")


def _live(api: AdminApi, row: Row) -> Mapping[str, Any]:
    """The live roles of the row's scope, each with its text; empty if there is none."""
    checked = _checked(row)
    operation = f"look up {row.scope}"
    try:
        if checked.assignment_id:
            document = api.call(operation, "GET", "assignments", checked.assignment_id).document
            roles = {role: document[role] for role in ("instructions", *TEXTS) if document[role]}
            return {role: each for role, each in roles.items() if not each["deleted"]}
        path = ("assessment-instructions", "course", checked.course_id)
        document = api.call(operation, "GET", *path).document
    except Refused as refusal:
        if refusal.status == 404 and "resource_type" in refusal.problem:
            return {}
        raise
    return {"instructions": {**document, "text": document["instructions_text"]}}


def _live_instructions(api: AdminApi) -> list[Mapping[str, Any]]:
    """All live instructions. A deletion meanwhile moves others to a page that was read: then they are listed again."""
    for _ in range(LISTINGS):
        found: dict[str, Mapping[str, Any]] = {}
        page, total = 0, 1
        while page * PAGE < total:
            page += 1
            query = {"page": page, "page_size": PAGE}
            document = api.call(
                "list the instructions", "GET", "assessment-instructions", query=query
            ).document
            found |= {item["scope_key"]: item for item in document["items"]}
            total = document["total"]
        if len(found) >= total:
            return list(found.values())
    raise CJStreamError("the list changed while it was read: export again when fewer are deleted")


def _row_of(api: AdminApi, item: Mapping[str, Any]) -> Exported:
    """The row of live instructions, with the texts of the assignment."""
    row = {
        name: item[name] for name in ("assignment_id", "course_id", "grade_scale", "context_origin")
    }
    texts = {"instructions_text": (item["instructions_text"], item["text_state"])}
    if item["assignment_id"] is not None:
        document = api.call(
            f"export {item['scope_key']}", "GET", "assignments", item["assignment_id"]
        ).document
        for role, column in TEXTS.items():
            component = document[role]
            if component is not None and not component["deleted"]:
                texts[column] = (component.get("text"), component.get("text_state"))
    row |= {column: text for column, (text, _) in texts.items()}
    return Exported(
        item["scope_key"],
        {name: value for name, value in row.items() if value is not None},
        {column: state for column, (text, state) in texts.items() if text is None},
    )


def _each(items: Sequence[T], function: Callable[[T], R], what: str) -> list[R]:
    """The results in order; the first fault ends it: what was not begun is not called."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return list(bar(pool.map(function, items), what, total=len(items)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _report(api: AdminApi, file: str, outcomes: Iterable[Outcome], *, dry_run: bool) -> None:
    outcomes = list(outcomes)
    counts = Counter(outcome.outcome for outcome in outcomes)
    refused = [outcome for outcome in outcomes if outcome.outcome == "refused"]
    summary = {name: counts[name] for name in OUTCOMES}
    if api.as_json:
        lines = [
            {"line": one.row.line, "scope": one.row.scope, "faults": one.faults} for one in refused
        ]
        print_json({"file": file, "dry_run": dry_run, **summary, "refused_lines": lines})
        return
    for one in refused:
        say(f"{name_of(file)}, line {one.row.line}: {one.row.scope}: {'; '.join(one.faults)}")
    show_pairs("Dry run: nothing was written" if dry_run else "Import", summary)
