"""`cjstream bench …`: parses, measures, prints."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from tools.options import Json
from tools.printing import print_json, print_table
from tools.progress import say

bench_app = typer.Typer(
    help="Measure what is promised in seconds, each on a broker and processes of its own that are gone afterwards. "
    "Every answer names the machine and its load before: only a quiet machine gives figures to quote.",
    no_args_is_help=True,
)
Rate = Annotated[float, typer.Option(min=1, max=2000, help="Requests a second.")]
Protocol = Annotated[
    Literal["classic", "consumer"],
    typer.Option(help="Of the workers' group: cooperative-sticky, or KIP-848."),
]


@bench_app.command()
def release(
    requests: Annotated[int, typer.Option(min=1, help="Released one by one.")] = 200,
    crowd: Annotated[int, typer.Option(min=0, help="Released together; 0: none.")] = 10_000,
    rate: Rate = 100,
    as_json: Json = False,
) -> None:
    """How long parked requests wait once the upload has come that they lack.

    One worker. Requests for as many assignments are parked, then each
    assignment gets its student prompt in turn. Times run from that upload's
    append: to the outcome's (outcome_ms), both by the broker's clock in whole
    milliseconds, and until a reader of committed records has it (visible_ms).

    Then one upload releases a crowd, while requests for another assignment, so
    many a second, go on: how long those take from their append until a reader
    has the outcome, before the upload (quiet) and meanwhile.
    """
    from tools.bench import release as command

    _show(command.run(say, requests=requests, crowd=crowd, rate=rate), as_json=as_json)


@bench_app.command()
def rebalance(
    protocol: Protocol = "classic",
    times: Annotated[int, typer.Option(min=1, help="Joins, and as many leaves.")] = 10,
    rate: Rate = 100,
    quiet: Annotated[float, typer.Option(min=0, help="Seconds between them.")] = 5,
    as_json: Json = False,
) -> None:
    """The pause that requests see when a second worker joins and leaves.

    A request's time runs from its append until a reader of committed records
    has its outcome, so that an aborted transaction counts. A join lasts from
    the start of the process, a leave from SIGTERM, to one second after the
    partitions have moved. pause_ms is the longest time of a request in each of
    them, latency_ms is all requests in them, quiet_ms all others.
    """
    from tools.bench import rebalance as command

    found = command.run(say, protocol=protocol, times=times, rate=rate, quiet_s=quiet)
    _show(found, as_json=as_json)


@bench_app.command()
def recovery(
    protocol: Protocol = "classic",
    times: Annotated[int, typer.Option(min=1, help="Kills of each kind.")] = 5,
    rate: Rate = 100,
    as_json: Json = False,
) -> None:
    """How long requests wait after `kill -9` of a worker.

    First a lone worker with a slot, started again at once; then one of two
    without slots, whose partitions the other takes over once the session has
    ended. Seconds from the kill until a reader of committed records has the
    first outcome of a request appended after it; one from every partition; and
    all that were appended until then.

    CJSTREAM_SESSION_TIMEOUT_S and CJSTREAM_TRANSACTION_TIMEOUT_S bound the
    second kind; with --protocol consumer the session is the broker's, 6 s.
    """
    from tools.bench import recovery as command

    _show(command.run(say, protocol=protocol, times=times, rate=rate), as_json=as_json)


@bench_app.command()
def api(
    processes: Annotated[int, typer.Option(min=1, max=8, help="Of the API, in turn.")] = 1,
    assignments: Annotated[int, typer.Option(min=1, max=1000, help="In turn.")] = 20,
    rate: Annotated[float, typer.Option(min=1, max=1000, help="Requests a second.")] = 20,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 60,
    as_json: Json = False,
) -> None:
    """How long GET /admin/v1/assignments/{id} and the upload of a prompt take.

    Requests are sent when they are due, whether those before are answered or
    not; every second one uploads a new text as the student prompt. Times run
    from the moment a request was due.

    --processes 2 --assignments 4 makes two writers take the same partitions
    from each other.
    """
    from tools.bench import api as command

    found = command.run(
        say, processes=processes, assignments=assignments, rate=rate, seconds=seconds
    )
    _show(found, as_json=as_json)


@bench_app.command()
def audit(
    uploads: Annotated[int, typer.Option(min=2, help="In the log.")] = 1_000_000,
    assignments: Annotated[int, typer.Option(min=1, help="That they are of.")] = 100_000,
    batches: Annotated[int, typer.Option(min=1, help="In the log, with their requests.")] = 200_000,
    as_json: Json = False,
) -> None:
    """How fast verify, replay and as-of read a log, and what memory they take.

    Each is the command as a process, from its start to its end; of verify,
    seconds tells the reading of the uploads and the outcomes apart. Batches
    name assignments at random. peak_mb is the command's largest process.
    Writing the log takes most of the time.
    """
    from tools.bench import audit as command

    found = command.run(say, uploads=uploads, assignments=assignments, batches=batches)
    _show(found, as_json=as_json)


def _show(found: Any, *, as_json: bool) -> None:
    """Print a measurement: as it is, or each figure with its path."""
    if as_json:
        print_json(asdict(found))
    else:
        print_table(type(found).__name__, ("", ""), _flat(asdict(found)))


def _flat(document: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name} ")
        else:
            yield f"{above}{name}", value
