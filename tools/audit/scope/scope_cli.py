"""`cjstream audit as-of` and `history`: one scope, parsed, asked for and printed."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from processors.settings import settings_from_environment
from schemas.errors import Misconfigured
from schemas.events import ROLES
from tools.options import Json
from tools.printing import harmless, print_json, print_table

Scope = Annotated[
    str, typer.Argument(help="An assignment's id, assignment:<id> or course:<id>.", metavar="SCOPE")
]
At = Annotated[
    str | None,
    typer.Option(
        help="A time with its offset, 2026-03-01T12:00:00Z, or a time ago: 90s, 30m, 2h, 7d."
    ),
]
Offsets = Annotated[
    str | None,
    typer.Option(
        help="Right after these records: topic/partition@offset,…", metavar="COORDINATES,…"
    ),
]
Diff = Annotated[
    str | None, typer.Option(help="Show what changed since that time, or those coordinates.")
]
Texts = Annotated[bool, typer.Option("--texts/--no-texts", help="Fetch the texts and check them.")]
UsesToo = Annotated[
    bool,
    typer.Option(
        "--uses", help="Count the batches that used each version: reads that whole topic."
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
    """The context of a scope as it stood; exit 3 where that cannot be told, or a text is missing or damaged."""
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
    store = ContentStore.at(settings.content) if texts else None
    moments = [moment] if since is None else [moment, since]
    stood, *earlier = command.asked(settings, scope_key, moments, store)
    before = earlier[0] if earlier else None
    changes = [] if before is None else list(command.changes(before, stood))
    if as_json:
        document = command.document_of(stood)
        if before is not None:
            document["diff"] = [command.change_document(one) for one in changes]
        print_json(document)
    elif before is None:
        _print_standing(command.document_of(stood))
    else:
        _print_changes(scope_key, changes)
    for one in (stood, *earlier):
        command.refuse_unknown(one)


def history(scope: Scope, uses: UsesToo = False, as_json: Json = False) -> None:
    """Every version of every role of a scope, damaged uploads too; exit 3 where something is known to be missing."""
    from tools.audit.scope import history as command
    from tools.audit.scope_argument import scope_key_from

    settings = settings_from_environment()
    found = command.history(settings, scope_key_from(scope))
    used = command.uses(settings, found) if uses else None
    document = command.document_of(found, used)
    if as_json:
        print_json(document)
    else:
        _print_history(document)
    command.refuse_gaps(found, used)


def _at(source: dict[str, Any]) -> str:
    return f"{source['topic']}/{source['partition']}@{source['offset']}"


def _print_standing(document: dict[str, Any]) -> None:
    rows = [_row(role, document[role], role in document["unknown"]) for role in ROLES]
    columns = ("role", "state", "version", "by", "occurred at", "at", "sha256")
    print_table(document["scope_key"], columns, rows)
    for role in ROLES:
        told = document[role] or {}
        if told.get("text") is not None:
            _print_lines([f"--- {role}", *str(told["text"]).splitlines(), ""])
        elif told.get("text_state"):
            _print_lines([f"--- {role}: its text is {told['text_state']}", ""])


def _row(role: str, told: dict[str, Any] | None, is_unknown: bool) -> tuple[object, ...]:
    if told is None:
        return (role, "cannot be told" if is_unknown else "never there", "", "", "", "", "")
    state = "erased" if told.get("erased") else "deleted" if told["deleted"] else "live"
    place, sha256 = _at(told["source"]), told.get("sha256", "")[:12]
    return (role, state, told["version"], told["actor"], told["occurred_at"], place, sha256)


def _print_changes(scope_key: str, changes: list[Any]) -> None:
    rows = [
        (
            change.role,
            change.what,
            change.before.version if change.before else "",
            change.after.version if change.after else "",
            change.after.actor if change.after else "",
            ", ".join(change.fields),
        )
        for change in changes
    ]
    print_table(scope_key, ("role", "what", "before", "after", "by", "changed"), rows)
    for change in changes:
        _print_lines(change.lines)


def _print_history(document: dict[str, Any]) -> None:
    rows = [
        (
            one["role"],
            one["version"],
            "deleted" if one["deleted"] else "uploaded",
            one["actor"],
            one["occurred_at"],
            _at(one["source"]),
            one.get("size_bytes", ""),
            one.get("sha256", "")[:12],
            ", ".join(filter(None, (one["mark"], *one["changed"]))),
            one.get("batches", ""),
        )
        for one in document["items"]
    ]
    columns = ("role", "version", "what", "by", "occurred at", "at", "bytes", "sha256", "changed")
    print_table(document["scope_key"], (*columns, "batches"), rows)
    for one in document["damaged"]:
        _print_lines([f"damaged: {one['role']} at {_at(one['source'])}: {one['reason']}"])
    for gap in document["gaps"]:
        since = f"; complete from {_at(gap['complete_from'])} on" if gap["complete_from"] else ""
        _print_lines(
            [f"gap: {gap['role']} after version {gap['after_version']}: {gap['reason']}{since}"]
        )


def _print_lines(lines: Iterable[str]) -> None:
    console = Console()
    for line in lines:
        console.print(harmless(line), markup=False, highlight=False, soft_wrap=True)
