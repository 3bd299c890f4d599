"""`cjstream audit replay`: parsed, asked for and printed."""

import sys
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from processors.settings import Settings, settings_from_environment
from tools.printing import print_json, print_table
from tools.progress import counted

if TYPE_CHECKING:
    from tools.audit.replay.replay import ReplayRange

SHOWN = 50  # in a table
From = Annotated[
    str | None,
    typer.Option(
        "--from", help="A time (2026-03-01T12:00:00Z, 2h ago) or topic/partition@offset,…"
    ),
]
To = Annotated[str | None, typer.Option("--to", help="Up to and with that moment, told alike.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--scope", help="Only this one; may be given again.", metavar="SCOPE"),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare", help="Hold it against the changelog and the replicas of this data folder."
    ),
]
Folder = Annotated[
    list[Path] | None,
    typer.Option("--replica", help="Compare with this replica's folder alone; may be given again."),
]
JsonLines = Annotated[
    bool, typer.Option("--json", help="JSON lines on stdout; the last one is the summary.")
]


def replay(
    since: From = None,
    until: To = None,
    scope: Only = None,
    compare: Compare = False,
    replica: Folder = None,
    as_json: JsonLines = False,
) -> None:
    """Fold the upload topics again, in a range or whole; exit 3 where --compare finds a difference."""
    from schemas.errors import Misconfigured
    from tools.audit.replay import replay as command
    from tools.audit.scope_argument import scope_key_from
    from tools.times import point_in_time_from

    now = datetime.now(UTC)
    first = None if since is None else point_in_time_from(since, now, "--from")
    last = None if until is None else point_in_time_from(until, now, "--to")
    scope_keys = [scope_key_from(one) for one in scope or ()]
    if (compare or replica) and (since or until or scope):
        raise Misconfigured("--compare takes the whole log: give no --from, --to or --scope")
    settings = settings_from_environment()
    of = command.range_of(settings, first, last)
    if compare or replica:
        _compare(settings, of, replica or (), as_json=as_json)
    else:
        _replay(settings, of, scope_keys, as_json=as_json)


def _replay(
    settings: Settings, of: "ReplayRange", scope_keys: Sequence[str], *, as_json: bool
) -> None:
    from tools.audit.replay import replay as command

    rows = list[Any]()
    with counted("records", of.records) as progress:
        shown = None if as_json else SHOWN
        for said in command.replay(settings, of, scope_keys, shown=shown):
            match said:
                case command.RecordsRead(records):
                    progress(records)
                case command.ContextLines(lines) if as_json:
                    sys.stdout.buffer.write(lines)
                case command.ContextLines(lines):
                    rows += command.rows_of(lines)
                case command.ReplaySummary():
                    summary = command.summary_document(said)
    if as_json:
        print_json({"summary": summary})
        return
    rows = sorted(rows, key=lambda one: str(one["scope_key"]))[:SHOWN]
    columns = ("scope", "instructions", "student prompt", "judge rubric", "")
    print_table(
        f"Contexts: {min(len(rows), SHOWN)} of {summary['scopes']}", columns, map(_row, rows)
    )
    _print_summary(summary)


def _row(told: dict[str, Any]) -> tuple[object, ...]:
    from schemas.events import ROLES

    broken = f"history broken: {', '.join(told['broken'])}" if told["broken"] else ""
    return (told["scope_key"], *(_component(told[role]) for role in ROLES), broken)


def _component(told: dict[str, Any] | None) -> str:
    if told is None:
        return ""
    source = told["source"]
    deleted = ", deleted" if told["deleted"] else ""
    return f"{told['version']}{deleted} at {source['partition']}@{source['offset']}"


def _print_summary(summary: dict[str, Any]) -> None:
    seconds = summary["seconds"]["read"]
    rate = round(summary["records"] / max(seconds, 0.001))
    typer.echo(
        f"{summary['records']} records of {summary['scopes']} scopes in {seconds} s ({rate} a second); "
        f"{summary['damaged']} damaged; {summary['broken']} scopes with a broken history"
    )
    for gap in summary["gaps"]:
        typer.echo(f"gap: {gap}")


def _compare(
    settings: Settings, of: "ReplayRange", folders: Collection[Path], *, as_json: bool
) -> None:
    from processors.log.upload_topics import upload_topic_ids
    from tools.audit.local_replicas import replica_at, replicas_here
    from tools.audit.replay import table_compare as command
    from tools.audit.replay.replay import RecordsRead

    replicas = [replica_at(one) for one in folders] if folders else replicas_here(settings)
    found = command.targets(of, settings, replicas, upload_topic_ids(settings))
    chosen = found[1:] if folders else found
    amiss = [one for one in chosen if one.amiss]
    show, rows = _shower(as_json), dict[str, int]()
    count = 0
    for target in chosen:
        if target.amiss:
            continue
        rows[target.name] = 0
        with counted(target.name, target.of.records) as progress:
            for said in command.compared(settings, target):
                match said:
                    case RecordsRead(records):
                        progress(records)
                    case command.ComparedRows(name, more):
                        rows[name] += more
                    case command.RowFinding():
                        count += 1
                        show(command.difference_document(said))
    summary = {
        "compared": [{"target": name, "rows": more} for name, more in rows.items()],
        "not_compared": [{"target": one.name, "why": one.amiss} for one in amiss],
        "differences": count,
    }
    if as_json:
        print_json({"summary": summary})
    else:
        told = [f"{name} ({more} rows)" for name, more in rows.items()]
        typer.echo(f"compared with {', '.join(told) or 'nothing'}: {count} differences")
    command.refuse_differences(count, amiss)


def _shower(as_json: bool) -> Callable[[dict[str, Any]], None]:
    def show(difference: dict[str, Any]) -> None:
        if as_json:
            print_json({"difference": difference})
            return
        sides = [_at(difference[side]) for side in ("expected", "found")]
        typer.echo(
            f"{difference['scope_key']} {difference['role']}: {difference['kind']} in {difference['target']}: "
            f"the log says {sides[0]}, found {sides[1]}"
        )

    return show


def _at(told: dict[str, Any] | None) -> str:
    if told is None:
        return "nothing"
    source = told["source"]
    return (
        f"version {told['version']} at {source['topic']}/{source['partition']}@{source['offset']}"
    )
