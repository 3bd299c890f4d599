"""The command line: reads arguments, calls commands, prints results. Results go to stdout, all else to stderr."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from processors.http_clients import exempt_this_machine
from processors.settings import settings_from_environment
from tools.admin.cli import admin_app
from tools.audit.cli import audit_app
from tools.bench.cli import bench_app
from tools.command_examples import add_examples
from tools.models.models_cli import models_app
from tools.options import Json
from tools.parked_and_dlq_cli import dlq_app, parked_app
from tools.printing import number_of, print_fields, print_json, print_line, print_table
from tools.progress import say
from tools.reporting import ReportingGroup
from tools.results.results_cli import results_app
from tools.runner.run_cli import run_app
from tools.times import duration_s

app = typer.Typer(
    name="cjstream",
    cls=ReportingGroup,
    help="Event-sourced stream processor for the assignment context of comparative judgement.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 a check found a discrepancy, 4 a dependency is unreachable.",
)


def group(name: str, summary: str) -> typer.Typer:
    """A group of commands of the app."""
    commands = typer.Typer(help=summary, no_args_is_help=True)
    app.add_typer(commands, name=name)
    return commands


broker_app = group("broker", "The embedded Kafka broker.")
topics_app = group("topics", "The topics of the catalogue, compared with the cluster.")
uploads_app = group("uploads", "Upload events, for producers other than the API.")
requests_app = group("requests", "CJ requests.")
batches_app = group("batches", "Prepared batches and the other outcomes.")
content_app = group("content", "The content store.")
for name, commands in {
    "admin": admin_app,
    "parked": parked_app,
    "dlq": dlq_app,
    "results": results_app,
    "audit": audit_app,
    "bench": bench_app,
    "models": models_app,
    "run": run_app,
}.items():
    app.add_typer(commands, name=name)

Files = Annotated[
    list[str],
    typer.Argument(help="Files with JSON (one object or an array) or JSON lines; - is stdin."),
]


@app.command()
def worker() -> None:
    """Run one worker in the foreground: fold uploads, prepare batches. Stop it with SIGTERM or Ctrl-C."""
    from tools import worker as command

    command.run(settings_from_environment())


@app.command()
def judge() -> None:
    """Judge prepared batches in the foreground. Stop it with SIGTERM or Ctrl-C."""
    from tools import judge as command

    command.run(settings_from_environment())


@app.command()
def api() -> None:
    """Serve the admin API in the foreground. Stop it with SIGTERM or Ctrl-C."""
    from tools.api import server as command

    command.run(settings_from_environment())


@topics_app.command("list")
def topics_list(as_json: Json = False) -> None:
    """List the catalogue's topics as the cluster has them; exit 3 if one is missing or differs."""
    from tools import topics as command

    show_topics(command.list_topics(settings_from_environment()), as_json=as_json)


@topics_app.command("apply")
def topics_apply(
    wait: Annotated[
        float, typer.Option(help="Seconds to wait until the broker's name resolves and it answers.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Create the missing topics, and change what is new in the settings of existing ones; exit 3 if one contradicts.

    A setting that would change what a topic keeps or how it is read is never changed.
    """
    from tools import topics as command

    show_topics(command.apply(settings_from_environment(), wait_s=wait), as_json=as_json)


@topics_app.command("acls")
def topics_acls(
    process: Annotated[
        str | None,
        typer.Option(
            help="Only of this process: worker, judge, api, auditor, producer or operator."
        ),
    ] = None,
    principal: Annotated[
        str | None, typer.Option(help="The user, such as User:cjstream; default: one per process.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the rights (ACLs) that each process needs, as commands for Kafka's kafka-acls.sh; contacts no broker."""
    from tools import acls as command

    settings = settings_from_environment()
    command.show(settings, process, principal, as_json=as_json)


@topics_app.command("abort-transaction")
def topics_abort_transaction(
    partition: Annotated[
        str | None,
        typer.Argument(
            help="Only on this partition: topic/partition. Otherwise on every topic of the catalogue and on the"
            " partitions of __consumer_offsets with the offsets of its groups.",
            metavar="PARTITION",
        ),
    ] = None,
    producer_id: Annotated[
        int | None, typer.Option("--producer-id", help="Only of this producer.")
    ] = None,
    open_for: Annotated[
        str,
        typer.Option(
            "--open-for",
            help="A transaction that its coordinator still has hangs once it is open for longer: 90s, 30m, 2h, 7d.",
        ),
    ] = "60s",
    yes: Annotated[
        bool, typer.Option("--yes", help="End them; without it, only show what would be ended.")
    ] = False,
    as_json: Json = False,
) -> None:
    """End transactions that hang, so that readers of committed records and offsets continue. A dry run unless --yes.

    If its coordinator no longer has it, its marker is written: abort, unless the coordinator's log says that
    it was committed. If its producer may still write to it, the producer is fenced. Exit 3 if one could not be ended.
    """
    from tools import abort_transaction as command

    endings = command.abort_transactions(
        settings_from_environment(),
        None if partition is None else command.partition_named(partition),
        producer_id,
        now_ms=int(datetime.now(UTC).timestamp() * 1000),
        max_open_s=duration_s(open_for, "--open-for"),
        yes=yes,
    )
    documents = list(map(command.document_of, endings))
    if as_json:
        print_json({"dry_run": not yes, "transactions": documents})
    else:
        title = "Ended" if yes else "Would be ended; use --yes to end them"
        rows = [
            tuple("" if document[name] is None else document[name] for name in command.COLUMNS)
            for document in documents
        ]
        print_table(f"{title}: {len(rows)}", command.COLUMNS, rows)
    command.refuse_unended(endings)


def show_topics(states: list[Any], *, as_json: bool) -> None:
    """Print topic states; exit 3 if a topic is missing or differs from the catalogue."""
    rows = [
        {
            "topic": state.topic.name,
            "exists": state.topic_id is not None,
            "partitions": state.partitions,
            "replication": state.replication,
            "kept": state.topic.retention,
            "contradictions": list(state.contradictions),
            "outdated": list(state.outdated),
            "warnings": list(state.warnings),
        }
        for state in states
    ]
    if as_json:
        print_json({"topics": rows})
    else:
        cells = [
            (
                *(row[name] for name in ("topic", "partitions", "replication", "kept")),
                "; ".join(row["contradictions"] + row["outdated"])
                or ("ok" if row["exists"] else "missing"),
            )
            for row in rows
        ]
        print_table("Topics", ("topic", "partitions", "replication", "kept as", "state"), cells)
    if any(row["contradictions"] or row["outdated"] or not row["exists"] for row in rows):
        raise typer.Exit(3)


def show_broker(status: Any, as_json: bool) -> None:
    """Print the embedded broker's state."""
    print_fields("Embedded broker", asdict(status), as_json=as_json)


@broker_app.command("start")
def broker_start(as_json: Json = False) -> None:
    """Start the embedded broker in the background and wait until it answers."""
    from tools import broker

    show_broker(broker.start(settings_from_environment()), as_json)


@broker_app.command("stop")
def broker_stop(as_json: Json = False) -> None:
    """Stop the embedded broker; its data stays."""
    from tools import broker

    show_broker(broker.stop(settings_from_environment()), as_json)


@broker_app.command("status")
def broker_status(as_json: Json = False) -> None:
    """Show whether the embedded broker runs; exit 3 if it does not."""
    from tools import broker

    status = broker.status(settings_from_environment())
    show_broker(status, as_json)
    if not status.ready:
        say("the embedded broker is not running: start it with `cjstream broker start`")
        raise typer.Exit(3)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine, the cluster and the configuration; exit 3 if a check fails."""
    from tools import doctor as command

    checks = command.examine(settings_from_environment())
    if as_json:
        print_json({"ok": all(check.ok for check in checks), "checks": list(map(asdict, checks))})
    else:
        rows = [("ok" if check.ok else "NOT OK", check.name, check.detail) for check in checks]
        print_table("Doctor", ("", "what", "seen"), rows)
    if not all(check.ok for check in checks):
        raise typer.Exit(3)


@app.command()
def up() -> None:
    """Run broker, topics, worker, judge and API for development, in the foreground; Ctrl-C stops what it started."""
    from tools import up as command

    command.run(settings_from_environment())


@uploads_app.command("send")
def uploads_send(
    files: Files,
    create_only: Annotated[
        bool,
        typer.Option("--create-only", help="Skip what is live already, whatever its text is."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and send nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Store the texts and append the upload events; if any input is bad, nothing is sent. Run one sender at a time.

    What is live already with the same text is not sent again, so that a file can be sent twice.
    """
    from tools import send

    settings = settings_from_environment()
    sent = send.send_uploads(settings, files, create_only=create_only, dry_run=dry_run)
    if as_json:
        documents = [
            {**asdict(upload), "at": None if upload.at is None else str(upload.at)}
            for upload in sent
        ]
        print_json({"dry_run": dry_run, "uploads": documents})
    else:
        rows = [
            (upload.scope_key, upload.event_type, upload.version, upload.outcome, upload.at or "")
            for upload in sent
        ]
        title = "Would be sent" if dry_run else "Sent uploads"
        print_table(title, ("scope", "event", "version", "outcome", "at"), rows)


@uploads_app.command("set-aside")
def uploads_set_aside(
    coordinates: Annotated[
        str,
        typer.Argument(
            help="The upload: topic/partition@offset, as the log, doctor and the API name it.",
            metavar="COORDINATES",
        ),
    ],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without it, only say what would be done.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let the fold of a partition go on behind an upload of a later release. A dry run unless --yes.

    Deploying that release is better: then the upload counts. Set aside, it is a dead letter, and its key's last
    good upload is appended anew.
    """
    from tools import set_aside as command

    done = command.set_aside(settings_from_environment(), coordinates, yes=yes)
    by = None if done.by is None else str(done.by)
    if as_json:
        print_json({**asdict(done), "at": str(done.at), "by": by, "dry_run": not yes})
        return
    say(f"{done.at}, key {done.key}: {done.reason}")
    repeats = "its last good upload" if done.has_upload else "no value: it has no good upload"
    say(f"set aside by {by}" if by else f"would be set aside by a record of its key with {repeats}")


@requests_app.command("send")
def requests_send(files: Files, as_json: Json = False) -> None:
    """Append CJ requests, in plain form or in JSON event envelopes; if any input is bad, nothing is sent.

    An essay has text_storage_id (a stored text), text, or text_file (plain text or .docx, in or below the folder of
    the request's file); texts are stored before the requests are appended.
    """
    from tools import send

    sent = send.send_requests(settings_from_environment(), files)
    if as_json:
        print_json({"requests": [{**asdict(request), "at": str(request.at)} for request in sent]})
    else:
        rows = [(request.batch_id, request.event_id, request.at) for request in sent]
        print_table("Sent requests", ("batch", "event", "at"), rows)


@requests_app.command("reset-offsets")
def requests_reset_offsets(
    yes: Annotated[
        bool, typer.Option("--yes", help="Commit the offsets; without it, only show what is found.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find where batch preparation must continue if its group's offsets have expired. A dry run unless --yes.

    Per partition: one above the highest request that has an outcome, and above the parked ones that directly follow it,
    or the start of the log. Reads every outcome. Exit 1 if workers run, 3 if open transactions hide outcomes.
    """
    from tools import reset_offsets as command

    found = command.reset_offsets(settings_from_environment(), yes=yes)
    if as_json:
        print_json(command.document_of(found, dry_run=not yes))
        return
    offsets = ("partition", "committed", "log starts", "log ends", "last done", "offset")
    columns = (*offsets, "set") if yes else offsets
    rows = [
        tuple("" if cell is None else cell for cell in command.row_of(one)[: len(columns)])
        for one in found.partitions
    ]
    title = "Set" if yes else "Would be set if it differs from the committed offset; use --yes"
    print_table(title, columns, rows)
    for at, reason in found.strangers.items():
        say(f"{at} does not count: {reason}; some other producer wrote it")


@batches_app.command("tail")
def batches_tail(
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Keep reading new batches; with --json, one object per line."
        ),
    ] = False,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start with the first batch in the log.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The number of newest batches (default 10), or with --from-beginning the total number.",
        ),
    ] = None,
    every_outcome: Annotated[
        bool, typer.Option("--all", help="Also show unresolved requests and dead letters.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show prepared batches, decoded, up to the current end of the log."""
    from tools import tail

    found = tail.tail_batches(
        settings_from_environment(),
        follow=follow,
        from_beginning=from_beginning,
        limit=limit,
        every_outcome=every_outcome,
    )
    documents = []
    for outcome in found:
        if outcome.problem is not None:
            say(
                f"{outcome.record.at} is not an outcome: {outcome.problem}; some other producer wrote it"
            )
        elif not as_json:
            print_line(tail.line_of(outcome))
        elif follow:
            print_json(tail.document_of(outcome))
            sys.stdout.flush()
        else:
            documents.append(tail.document_of(outcome))
    if as_json and not follow:
        print_json({"batches": documents})


@batches_app.command("reset-offsets")
def batches_reset_offsets(
    yes: Annotated[
        bool, typer.Option("--yes", help="Commit the offsets; without it, only show what is found.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find where the judges must continue if their group's offsets have expired. A dry run unless --yes.

    Per partition: one above the highest batch that has a run or a result; where there is none, the first batch that is
    not older than the first run of all. Reads the whole judging log. Exit 1 if judges run, 3 if open transactions hide
    records.
    """
    from tools import reset_judge_offsets as command

    members, found = command.reset_offsets(settings_from_environment(), yes=yes)
    if as_json:
        print_json(command.document_of(members, found, dry_run=not yes))
        return
    columns = (
        *("partition", "committed", "log starts", "log ends", "last judged", "offset"),
        *("judging committed", "judging offset", "set"),
    )
    rows = [tuple("" if cell is None else cell for cell in asdict(one).values()) for one in found]
    title = "Set" if yes else "Would be set if it differs from the committed offset; use --yes"
    print_table(title, columns, rows)


@content_app.command("sweep")
def content_sweep(
    delete: Annotated[
        bool, typer.Option("--delete", help="Move the texts; without it they are only listed.")
    ] = False,
    grace: Annotated[
        str, typer.Option(help="The minimum age of an orphan: 7d, 36h, 90m, 7200s; at least 1h.")
    ] = "7d",
    as_json: Json = False,
) -> None:
    """Move texts that the log does not name to the trash, and delete them a grace period later. Run one at a time."""
    from tables.content_store import ContentStore
    from tools import sweep as command

    try:
        grace_period = command.grace_of(grace)
    except ValueError as fault:
        raise typer.BadParameter(str(fault), param_hint="--grace") from fault
    settings = settings_from_environment()
    store = ContentStore.open(settings.content)
    swept = command.sweep(settings, store, grace=grace_period, delete=delete, now=datetime.now(UTC))
    if as_json:
        print_json(command.document_of(swept))
        return
    rows = [
        (move, text.storage_id, text.size_bytes, text.stored_at.isoformat(timespec="seconds"))
        for move, texts in command.moves(swept).items()
        for text in texts
    ]
    total = f"{number_of(len(rows), 'text')}, {sum(row[2] for row in rows)} bytes, of {swept.listed} in the store"
    print_line(f"To be moved by --delete: {total}" if swept.dry_run else f"Moved: {total}")
    if rows:
        print_table("", ("", "id", "bytes", "stored at"), rows)


@app.command()
def demo(as_json: Json = False) -> None:
    """Run the whole story on a temporary broker: uploads, 2,000 requests, every outcome read back and checked."""
    from tools.demo import play as command

    report = command.run(say)
    print_fields("Demo", report, as_json=as_json)
    if not command.is_good(report):
        say(
            "the demo found a discrepancy: see missing, duplicated, stale, verified, faults and violations"
        )
        raise typer.Exit(3)


add_examples(app)


def program_name() -> str:
    """The command that people type: `tools/run` in a checkout, `cjstream` if the package is installed."""
    in_checkout = Path(sys.prefix).resolve() == (Path(__file__).parents[1] / ".venv").resolve()
    return "tools/run" if in_checkout and Path(sys.argv[0]).name != "cjstream" else "cjstream"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line, by default this process's."""
    exempt_this_machine(os.environ)
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # of another service's metrics
    try:
        app(arguments, prog_name=program_name())
    except BrokenPipeError:  # the reader of stdout has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":  # as the images of earlier releases call it
    main()
