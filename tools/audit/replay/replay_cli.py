"""`cjstream audit replay`: read the arguments, run the command, print the result."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from processors.settings import Settings, settings_from_environment
from tools.printing import number_of, print_json, print_json_lines, print_line, print_table
from tools.progress import counted

if TYPE_CHECKING:
    from tools.audit.replay.replay import ReplayRange

SHOWN = 50  # rows in the table
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="2026-03-01T12:00:00Z, a time ago such as 2h, or topic/partition@offset,…; inclusive.",
    ),
]
To = Annotated[
    str | None, typer.Option("--to", help="End with this moment, inclusive; same forms as --from.")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--scope", help="Only this scope; may be repeated.", metavar="SCOPE"),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Compare the result with the changelog and with the replicas in this data folder.",
    ),
]
Folder = Annotated[
    list[Path] | None,
    typer.Option(
        "--replica", help="Compare with the replica in this folder only; may be repeated."
    ),
]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print JSON lines on stdout; the last line is the summary.")
]


def replay(
    since: From = None,
    until: To = None,
    scope: Only = None,
    compare: Compare = False,
    replica: Folder = None,
    as_json: JsonLines = False,
) -> None:
    """Fold the upload topics again, a range or the whole log; exit 3 if --compare finds a difference."""
    from schemas.errors import Misconfigured
    from tools.audit.replay import replay as command
    from tools.audit.scope_argument import scope_key_from
    from tools.times import point_in_time_from

    now = datetime.now(UTC)
    first = None if since is None else point_in_time_from(since, now, "--from")
    last = None if until is None else point_in_time_from(until, now, "--to")
    scope_keys = [scope_key_from(argument) for argument in scope or ()]
    if (compare or replica) and (since or until or scope):
        raise Misconfigured("--compare takes the whole log: omit --from, --to and --scope")
    settings = settings_from_environment()
    replay_range = command.range_of(settings, first, last)
    if compare or replica:
        _compare(settings, replay_range, replica or (), as_json=as_json)
    else:
        _replay(settings, replay_range, scope_keys, as_json=as_json)


def _replay(
    settings: Settings, replay_range: "ReplayRange", scope_keys: Sequence[str], *, as_json: bool
) -> None:
    from tools.audit.replay import replay as command

    rows = list[Any]()
    with counted("records", replay_range.records) as progress:
        shown = None if as_json else SHOWN
        for message in command.replay(settings, replay_range, scope_keys, shown=shown):
            match message:
                case command.RecordsRead(records):
                    progress(records)
                case command.ContextLines(lines) if as_json:
                    print_json_lines(lines)
                case command.ContextLines(lines):
                    rows += command.rows_of(lines)
                case command.ReplaySummary():
                    summary = command.summary_document(message)
    if as_json:
        print_json({"summary": summary})
        return
    rows = sorted(rows, key=lambda row: str(row["scope_key"]))[:SHOWN]
    columns = ("scope", "instructions", "student prompt", "judge rubric", "anchors", "")
    print_table(
        f"Contexts: {min(len(rows), SHOWN)} of {summary['scopes']}", columns, map(_row, rows)
    )
    _print_summary(summary)


def _row(context: dict[str, Any]) -> tuple[object, ...]:
    from schemas.events import ADMINISTERED_ROLES

    broken = f"history broken: {', '.join(context['broken'])}" if context["broken"] else ""
    return (
        context["scope_key"],
        *(_component(context[role]) for role in ADMINISTERED_ROLES),
        broken,
    )


def _component(component: dict[str, Any] | None) -> str:
    if component is None:
        return ""
    source = component["source"]
    deleted = ", deleted" if component["deleted"] else ""
    return f"{component['version']}{deleted} at {source['partition']}@{source['offset']}"


def _print_summary(summary: dict[str, Any]) -> None:
    seconds = summary["seconds"]["read"]
    rate = round(summary["records"] / max(seconds, 0.001))
    print_line(
        f"{summary['records']} records of {summary['scopes']} scopes in {seconds} s ({rate} a second); "
        f"{summary['damaged']} damaged; {summary['broken']} scopes with a broken history"
    )
    for gap in summary["gaps"]:
        print_line(f"gap: {gap}")


def _compare(
    settings: Settings, replay_range: "ReplayRange", folders: Collection[Path], *, as_json: bool
) -> None:
    from processors.log.upload_topics import upload_topic_ids
    from tools.audit.local_replicas import readable_replicas, replica_at
    from tools.audit.replay import table_compare as command
    from tools.audit.replay.replay import RecordsRead

    replicas = (
        [replica_at(folder) for folder in folders] if folders else readable_replicas(settings)
    )
    found = command.targets(replay_range, settings, replicas, upload_topic_ids(settings))
    chosen = found[1:] if folders else found
    skipped = [target for target in chosen if target.problem]
    show, rows = _difference_printer(as_json), dict[str, int]()
    count = 0
    for target in chosen:
        if target.problem:
            continue
        rows[target.name] = 0
        with counted(target.name, target.replay_range.records) as progress:
            for message in command.compared(settings, target):
                match message:
                    case RecordsRead(records):
                        progress(records)
                    case command.ComparedRows(name, more):
                        rows[name] += more
                    case difference:
                        count += 1
                        show(difference)
    summary = {
        "compared": [{"target": name, "rows": more} for name, more in rows.items()],
        "not_compared": [{"target": target.name, "why": target.problem} for target in skipped],
        "differences": count,
    }
    if as_json:
        print_json({"summary": summary})
    else:
        compared = [f"{name} ({number_of(more, 'row')})" for name, more in rows.items()]
        print_line(
            f"compared with {', '.join(compared) or 'nothing'}: {number_of(count, 'difference')}"
        )
    command.refuse_differences(count, skipped)


def _difference_printer(as_json: bool) -> Callable[[dict[str, Any]], None]:
    def show(difference: dict[str, Any]) -> None:
        if as_json:
            print_json({"difference": difference})
            return
        if difference["role"] is None:
            number = difference.get("partition")
            target = difference["target"] + ("" if number is None else f"/{number}")
            print_line(f"{difference['scope_key']}: {difference['kind']} in {target}")
            return
        sides = [_at(difference[side]) for side in ("expected", "found")]
        print_line(
            f"{difference['scope_key']} {difference['role']}: {difference['kind']} in {difference['target']}: "
            f"the log has {sides[0]}, found {sides[1]}"
        )

    return show


def _at(component: dict[str, Any] | None) -> str:
    if component is None:
        return "nothing"
    source = component["source"]
    return f"version {component['version']} at {source['topic']}/{source['partition']}@{source['offset']}"
