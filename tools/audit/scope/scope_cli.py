"""`cjstream audit as-of` and `history`: read the arguments, run the command, print the result."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from processors.settings import settings_from_environment
from schemas.errors import Misconfigured
from schemas.events import ADMINISTERED_ROLES
from tools.options import Json
from tools.printing import harmless, print_json, print_table

Scope = Annotated[
    str, typer.Argument(help="An assignment id, assignment:<id> or course:<id>.", metavar="SCOPE")
]
At = Annotated[
    str | None,
    typer.Option(
        help="A time with its UTC offset, such as 2026-03-01T12:00:00Z, or a time ago: 90s, 30m, 2h, 7d."
    ),
]
Offsets = Annotated[
    str | None,
    typer.Option(
        help="Instead of a time: right after these records, topic/partition@offset,…",
        metavar="COORDINATES,…",
    ),
]
Diff = Annotated[
    str | None, typer.Option(help="Show what changed since this time, or since these records.")
]
Texts = Annotated[
    bool, typer.Option("--texts/--no-texts", help="Fetch the texts and check their hashes.")
]
UsesToo = Annotated[
    bool,
    typer.Option(
        "--uses",
        help="Count the batches that used each version; this reads the whole batches topic.",
    ),
]


def as_of(
    scope: Scope,
    at: At = None,
    offsets: Offsets = None,
    diff: Diff = None,
    texts: Texts = True,
    as_json: Json = False,
) -> None:
    """Show the context of a scope at a past moment; exit 3 if a role is unknown, or a text is missing or damaged."""
    from tables.content_store import ContentStore
    from tools.audit.scope import as_of as command
    from tools.audit.scope_argument import scope_key_from
    from tools.times import point_in_time_from

    if (at is None) == (offsets is None) or (offsets is not None and "@" not in offsets):
        raise Misconfigured("give --at TIME or --offsets topic/partition@offset,…")
    now = datetime.now(UTC)
    moment = point_in_time_from(at or offsets or "", now, "--at" if at else "--offsets")
    since = None if diff is None else point_in_time_from(diff, now, "--diff")
    scope_key, settings = scope_key_from(scope), settings_from_environment()
    store = ContentStore.open(settings.content) if texts else None
    moments = [moment] if since is None else [moment, since]
    report, *earlier = command.reports_at(settings, scope_key, moments, store)
    before = earlier[0] if earlier else None
    changes = [] if before is None else list(command.changes(before, report))
    if as_json:
        document = command.document_of(report)
        if before is not None:
            document["diff"] = changes
        print_json(document)
    elif before is None:
        _print_report(command.document_of(report))
    else:
        _print_changes(scope_key, changes)
    for each in (report, *earlier):
        command.refuse_unknown(each)


def history(
    scope: Scope,
    uses: UsesToo = False,
    page: Annotated[int, typer.Option(min=1, help="Page number; the newest are on page 1.")] = 1,
    page_size: Annotated[int, typer.Option(min=1, max=200, help="Uploads per page.")] = 50,
    as_json: Json = False,
) -> None:
    """List every version of every role of a scope, and damaged uploads; exit 3 if something is known to be missing."""
    from tools.audit.scope import history as command
    from tools.audit.scope_argument import scope_key_from

    settings = settings_from_environment()
    found = command.history(settings, scope_key_from(scope))
    used = command.uses(settings, found) if uses else None
    document = command.document_of(found, used, page=page, page_size=page_size)
    if as_json:
        print_json(document)
    else:
        _print_history(document)
    command.refuse_gaps(found, used, {topic.name for topic in settings.topics.uploads})


def _at(source: dict[str, Any]) -> str:
    return f"{source['topic']}/{source['partition']}@{source['offset']}"


def _print_report(document: dict[str, Any]) -> None:
    rows = [_row(role, document[role], role in document["unknown"]) for role in ADMINISTERED_ROLES]
    columns = ("role", "state", "version", "by", "occurred at", "at", "sha256")
    print_table(document["scope_key"], columns, rows)
    for role in ADMINISTERED_ROLES:
        component = document[role] or {}
        if component.get("text") is not None:
            _print_lines([f"--- {role}", *str(component["text"]).splitlines(), ""])
        elif component.get("text_state"):
            _print_lines([f"--- {role}: its text is {component['text_state']}", ""])


def _row(role: str, fields: dict[str, Any] | None, is_unknown: bool) -> tuple[object, ...]:
    if fields is None:
        return (role, "unknown" if is_unknown else "never uploaded", "", "", "", "", "")
    state = "erased" if fields.get("erased") else "deleted" if fields["deleted"] else "live"
    at, sha256 = _at(fields["source"]), fields.get("sha256", "")[:12]
    return (role, state, fields["version"], fields["actor"], fields["occurred_at"], at, sha256)


def _print_changes(scope_key: str, changes: list[dict[str, Any]]) -> None:
    rows = [
        (
            change["role"],
            change["change"],
            (change["before"] or {}).get("version", ""),
            (change["after"] or {}).get("version", ""),
            (change["after"] or {}).get("actor", ""),
            ", ".join(change["fields"]),
        )
        for change in changes
    ]
    print_table(scope_key, ("role", "what", "before", "after", "by", "changed"), rows)
    for change in changes:
        _print_lines(change["text_diff"].splitlines())


def _print_history(document: dict[str, Any]) -> None:
    rows = [
        (
            item["role"],
            item["version"],
            "deleted" if item["deleted"] else "uploaded",
            item["actor"],
            item["occurred_at"],
            _at(item["source"]),
            item.get("size_bytes", ""),
            item.get("sha256", "")[:12],
            ", ".join(filter(None, (item["mark"], *item["changed"]))),
            item.get("batches", ""),
        )
        for item in document["items"]
    ]
    columns = ("role", "version", "what", "by", "occurred at", "at", "bytes", "sha256", "changed")
    print_table(document["scope_key"], (*columns, "batches"), rows)
    if document["total"] > document["page_size"]:
        pages = -(-document["total"] // document["page_size"])
        _print_lines([f"page {document['page']} of {pages}: see --page and --page-size"])
    for item in document["damaged"]:
        _print_lines([f"damaged: {item['role']} at {_at(item['source'])}: {item['reason']}"])
    for gap in document["gaps"]:
        since = f"; complete from {_at(gap['complete_from'])}" if gap["complete_from"] else ""
        _print_lines(
            [f"gap: {gap['role']} after version {gap['after_version']}: {gap['reason']}{since}"]
        )
    for at in document["foreign_records"]:
        _print_lines([f"not counted: {at} is no batch; some other producer wrote it"])


def _print_lines(lines: Iterable[str]) -> None:
    console = Console()
    for line in lines:
        console.print(harmless(line), markup=False, highlight=False, soft_wrap=True)
