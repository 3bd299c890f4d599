"""`cjstream parked …` and `cjstream dlq …`: the side doors, looked into and opened."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from processors.settings import settings_from_environment
from tools.options import Json
from tools.printing import print_json, print_table
from tools.progress import say
from tools.times import span_of, time_of

parked_app = typer.Typer(help="Requests that wait for their context.", no_args_is_help=True)
dlq_app = typer.Typer(help="Dead letters, and the way back.", no_args_is_help=True)

DeadTopic = Annotated[
    str | None,
    typer.Option("--topic", help="Of requests or of uploads alone.", metavar="requests|uploads"),
]
Reason = Annotated[str, typer.Option(help="Words in the fault's class or message, in any case.")]
Since = Annotated[
    str | None,
    typer.Option(help="Dead since: 2026-03-01T12:00:00Z, or a time ago as 90s, 30m, 2h, 7d."),
]
Until = Annotated[str | None, typer.Option(help="Dead before that time, told alike.")]
Key = Annotated[str | None, typer.Option(help="Of just this record key.")]


@parked_app.command("list")
def parked_list(as_json: Json = False) -> None:
    """Who waits for what, how long already, and until when."""
    from tools import parked

    found = parked.parked(settings_from_environment(), now_ms=int(time.time() * 1000))
    if as_json:
        print_json({"parked": list(map(asdict, found))})
        return
    rows = [
        (
            one.request_at,
            one.scope_key,
            ", ".join(one.missing),
            span_of(one.waits_s),
            time_of(one.deadline_at_ms),
            span_of(one.left_s) if one.left_s > 0 else "due",
        )
        for one in found
    ]
    columns = ("request", "waits for", "lacked when parked", "waits since", "until", "left")
    print_table(f"Parked requests: {len(rows)}", columns, rows)


@dlq_app.command("list")
def dlq_list(
    topic: DeadTopic = None,
    reason: Reason = "",
    since: Since = None,
    until: Until = None,
    key: Key = None,
    every: Annotated[
        bool, typer.Option("--all", help="Those re-driven or superseded already, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Dead letters that are open, oldest first, with where they stood and why they were refused."""
    from tools import dlq

    filters = dlq.filters(reason, key, since, until)
    found = dlq.listed(settings_from_environment(), topic, filters, closed=every)
    if as_json:
        letters = [dlq.document_of(letter, went) for letter, went in found.letters]
        print_json({"dead_letters": letters, "strangers": found.strangers})
        return
    columns = ("at", "stood at", "key", "died", "attempt", "went", "reason")
    print_table("Dead letters", columns, [dlq.row_of(*one) for one in found.letters])
    for stranger in found.strangers:
        say(f"{stranger} is neither a dead letter nor a marker: some other producer wrote it")


@dlq_app.command("show")
def dlq_show(
    at: Annotated[str, typer.Argument(help="Where it stands: topic/partition@offset.")],
    value_file: Annotated[
        Path | None, typer.Option(help="Write its raw bytes to this new file.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """One dead letter: coordinates, reason, headers, sizes, sha256; never its bytes, but into a file."""
    from tools import dlq

    document = dlq.document_of(*dlq.shown(settings_from_environment(), at, value_file))
    if as_json:
        print_json(document)
    else:
        print_table("Dead letter", ("", ""), list(document.items()))


@dlq_app.command("redrive")
def dlq_redrive(
    topic: DeadTopic = None,
    reason: Reason = "",
    since: Since = None,
    until: Until = None,
    key: Key = None,
    most_attempts: Annotated[
        int,
        typer.Option("--max-attempts", min=1, help="Refuse what was re-driven so often already."),
    ] = 3,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without, only say what would be.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send dead letters back to where they came from, each once, in order per key. A dry run unless --yes.

    A refused one holds back the later ones of its key that are meant, too. Killed, it is gone on with by calling
    it again; exit 3 where some stay where they are.
    """
    from tools import dlq

    filters = dlq.filters(reason, key, since, until)
    settings = settings_from_environment()
    done = dlq.redriven(settings, topic, filters, most_attempts=most_attempts, yes=yes)
    documents = [dlq.decision_of(one, done.went) for one in done.decisions]
    if as_json:
        print_json({"dry_run": done.is_dry_run, "dead_letters": documents})
    else:
        title = "Would be re-driven; --yes does it" if done.is_dry_run else "Re-driven"
        columns = ("at", "original_at", "key", "fate", "attempt", "to", "went", "reason")
        rows = [
            tuple("" if one[name] is None else one[name] for name in columns) for one in documents
        ]
        print_table(title, columns, rows)
    dlq.refuse_refusals(done)
