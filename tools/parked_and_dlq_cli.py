"""`cjstream parked …` and `cjstream dlq …`: list parked requests, and list and re-drive dead letters."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from processors.settings import settings_from_environment
from schemas.errors import Discrepancy
from tools.options import Json
from tools.printing import print_fields, print_json, print_table
from tools.progress import say
from tools.times import span_of, time_of

if TYPE_CHECKING:  # importing it takes long
    from tools.parked import Parked

parked_app = typer.Typer(help="Requests that wait for their context.", no_args_is_help=True)
dlq_app = typer.Typer(help="Dead letters: list, show and re-drive them.", no_args_is_help=True)

DeadTopic = Annotated[
    str | None,
    typer.Option(
        "--topic",
        help="Only the dead letters of requests, or only those of uploads.",
        metavar="requests|uploads",
    ),
]
Reason = Annotated[
    str,
    typer.Option(
        help="Only those whose error class or message contains this text; case is ignored."
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Only those written since this time: 2026-03-01T12:00:00Z, or a time ago such as 90s, 30m, 2h, 7d."
    ),
]
Until = Annotated[
    str | None, typer.Option(help="Only those written before this time; same forms as --since.")
]
Key = Annotated[str | None, typer.Option(help="Only those with this record key.")]


@parked_app.command("list")
def parked_list(as_json: Json = False) -> None:
    """List the waiting requests: what each waits for, since when, and until when.

    Exit 3 if an open transaction hides some of them; the others are listed.
    """
    from tools import abort_transaction, parked

    now_ms = int(time.time() * 1000)
    settings = settings_from_environment()
    records = parked.read_parked_records(settings, now_ms)
    found = records.parked(now_ms)
    strangers = {str(at): reason for at, reason in records.strangers.items()}
    if as_json:
        print_json({"parked": list(map(asdict, found)), "strangers": strangers})
    else:
        _print_parked(found, strangers)
    if records.hidden:
        hidden_by = abort_transaction.hidden_by(settings, records.hidden, now_ms)
        raise Discrepancy(f"the list may lack requests, which open transactions hide: {hidden_by}")


def _print_parked(found: "list[Parked]", strangers: Mapping[str, str]) -> None:
    rows = [
        (
            request.request_at,
            request.scope_key,
            ", ".join(request.missing),
            span_of(request.waits_s),
            time_of(request.deadline_at_ms),
            span_of(request.left_s) if request.left_s > 0 else "due",
        )
        for request in found
    ]
    columns = ("request", "waits for", "missing when parked", "waiting", "until", "left")
    print_table(f"Parked requests: {len(rows)}", columns, rows)
    for at, reason in strangers.items():
        say(f"{at} does not count: {reason}; some other producer wrote it")


@parked_app.command("restore")
def parked_restore(
    coordinates: Annotated[
        list[str] | None,
        typer.Argument(
            help="Requests: topic/partition@offset, as doctor and audit verify name them; default: every request"
            " with a tombstone in the parked topic.",
            metavar="[COORDINATES]...",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without it, only show what would be done.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Park requests again that lost their entry without an outcome. A dry run unless --yes.

    Batch preparation then gives each its outcome, once. Exit 3 if a request that is named has an outcome, is
    parked, or was not fetched yet.
    """
    from tools import restore_parked

    settings = settings_from_environment()
    done = restore_parked.restore(settings, coordinates or [], int(time.time() * 1000), yes=yes)
    rows = [
        (str(one.request_at), "" if one.entry_at is None else str(one.entry_at), one.reason)
        for one in done
    ]
    columns = ("request", "entry", "reason")
    if as_json:
        requests = [dict(zip(columns, row, strict=True)) for row in rows]
        print_json({"dry_run": not yes, "requests": requests})
    else:
        title = "Parked again" if yes else "Would be parked again; use --yes"
        print_table(title, ("request", "entry", "not parked again because"), rows)
    restore_parked.refuse_refusals(done)


@dlq_app.command("list")
def dlq_list(
    topic: DeadTopic = None,
    reason: Reason = "",
    since: Since = None,
    until: Until = None,
    key: Key = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Also list those that were already re-driven or superseded."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List open dead letters, oldest first, with their original coordinates and the reason."""
    from tools import dlq

    filters = dlq.filters(reason, key, since, until)
    found = dlq.list_letters(settings_from_environment(), topic, filters, closed=every)
    if as_json:
        letters = [dlq.document_of(letter, went) for letter, went in found.letters]
        print_json({"dead_letters": letters, "strangers": found.foreign_records})
        return
    columns = ("at", "original at", "key", "written", "attempt", "went to", "reason")
    print_table("Dead letters", columns, [dlq.row_of(*letter) for letter in found.letters])
    for record in found.foreign_records:
        say(f"{record} is neither a dead letter nor a marker: some other producer wrote it")


@dlq_app.command("show")
def dlq_show(
    at: Annotated[str, typer.Argument(help="Its coordinates: topic/partition@offset.")],
    value_file: Annotated[
        Path | None, typer.Option(help="Write the record's value to this new file.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter: coordinates, reason, headers, sizes, sha256. Its value only goes into a file."""
    from tools import dlq

    document = dlq.document_of(*dlq.find_letter(settings_from_environment(), at, value_file))
    print_fields("Dead letter", document, as_json=as_json)


@dlq_app.command("redrive")
def dlq_redrive(
    topic: DeadTopic = None,
    reason: Reason = "",
    since: Since = None,
    until: Until = None,
    key: Key = None,
    max_attempts: Annotated[
        int,
        typer.Option(
            "--max-attempts",
            min=1,
            help="Refuse dead letters that were already re-driven this often.",
        ),
    ] = 3,
    yes: Annotated[
        bool, typer.Option("--yes", help="Re-drive; without it, only show what would be done.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Append dead letters to their original topics again, each once, in order per key. A dry run unless --yes.

    A refused dead letter also holds back the later selected ones of its key. If it is killed, run it again.
    Exit 3 if some were refused or held back.
    """
    from tools import dlq

    filters = dlq.filters(reason, key, since, until)
    settings = settings_from_environment()
    done = dlq.redrive(settings, topic, filters, max_attempts=max_attempts, yes=yes)
    documents = [dlq.decision_of(decision, done.went) for decision in done.decisions]
    if as_json:
        print_json({"dry_run": done.is_dry_run, "dead_letters": documents})
    else:
        title = "Would be re-driven; use --yes to re-drive" if done.is_dry_run else "Re-driven"
        columns = ("at", "original_at", "key", "fate", "attempt", "to", "went", "reason")
        rows = [
            tuple("" if document[name] is None else document[name] for name in columns)
            for document in documents
        ]
        print_table(title, columns, rows)
    dlq.refuse_refusals(done)
