"""`cjstream bench …`: parses options, measures, prints."""

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from schemas.errors import Misconfigured
from tools.bench.join.shape import DEFAULT, Shape
from tools.bench.percentiles import Figures, Spread
from tools.options import Json
from tools.printing import print_fields, print_table
from tools.progress import say

bench_app = typer.Typer(
    help="Measure latencies and rates. Each command starts its own broker and processes and stops them afterwards. "
    "Results name the machine and its load before the start: only quote figures from an idle machine.",
    no_args_is_help=True,
)
REPORT_FOLDER = Path(__file__).parents[1] / "reference" / "speed"
NOT_SHOWN = {"runs", "default_shape", "warm_restarts"}  # in a table for people
Rate = Annotated[float, typer.Option(min=1, max=2000, help="Requests per second.")]
Rounds = Annotated[int, typer.Option(min=1, help="Runs of each system, in turn.")]
Only = Annotated[list[str] | None, typer.Option(help="Only this system; may be repeated.")]
Protocol = Annotated[
    Literal["classic", "consumer"],
    typer.Option(
        help="Group protocol of the workers: classic (cooperative-sticky) or consumer (KIP-848)."
    ),
]


@bench_app.command()
def release(
    requests: Annotated[int, typer.Option(min=1, help="Requests released one by one.")] = 200,
    crowd: Annotated[
        int, typer.Option(min=0, help="Requests released together; 0: none.")
    ] = 10_000,
    rate: Rate = 100,
    as_json: Json = False,
) -> None:
    """How long parked requests wait after the missing upload has been appended.

    One worker runs. Requests for different assignments are parked, then each
    assignment gets its student prompt in turn. Times are measured from the
    append of that upload: to the append of the outcome (outcome_ms; both by the
    broker's clock, in whole milliseconds), and until a reader of committed
    records has the outcome (visible_ms).

    Then one upload releases a crowd of requests, while requests for another
    assignment are sent at --rate. For those, the time from append until a
    reader has the outcome is given before the upload (quiet) and meanwhile.
    """
    from tools.bench import release as command

    _measure("Release", command.run, as_json, requests=requests, crowd=crowd, rate=rate)


@bench_app.command()
def rebalance(
    protocol: Protocol = "classic",
    times: Annotated[int, typer.Option(min=1, help="Number of joins, and of leaves.")] = 10,
    rate: Rate = 100,
    quiet: Annotated[float, typer.Option(min=0, help="Seconds between a join and a leave.")] = 5,
    as_json: Json = False,
) -> None:
    """How long requests are delayed when a second worker joins and leaves.

    The latency of a request is the time from its append until a reader of
    committed records has its outcome, so that aborted transactions count. A
    join begins with the start of the process, a leave with SIGTERM; both end
    one second after the partitions have moved. pause_ms is the longest latency
    in each join or leave, latency_ms all latencies in them, quiet_ms all others.
    """
    from tools.bench import rebalance as command

    _measure(
        "Rebalance", command.run, as_json, protocol=protocol, times=times, rate=rate, quiet_s=quiet
    )


@bench_app.command()
def recovery(
    protocol: Protocol = "classic",
    times: Annotated[int, typer.Option(min=1, help="Number of kills of each kind.")] = 5,
    rate: Rate = 100,
    as_json: Json = False,
) -> None:
    """How long requests wait after `kill -9` of a worker.

    First a single worker with a slot is killed and restarted at once; then one
    of two workers without slots, whose partitions the other takes over when the
    session has timed out. Seconds are measured from the kill until a reader of
    committed records has: the first outcome of a request appended after the
    kill; one such outcome from every partition; the outcomes of all requests
    appended until then.

    CJSTREAM_SESSION_TIMEOUT_S and CJSTREAM_TRANSACTION_TIMEOUT_S bound the
    second kind; with --protocol consumer the broker's session timeout of 6 s
    applies.
    """
    from tools.bench import recovery as command

    _measure("Recovery", command.run, as_json, protocol=protocol, times=times, rate=rate)


@bench_app.command()
def api(
    processes: Annotated[
        int, typer.Option(min=1, max=8, help="API processes, called in turn.")
    ] = 1,
    assignments: Annotated[
        int, typer.Option(min=1, max=1000, help="Assignments, used in turn.")
    ] = 20,
    rate: Annotated[float, typer.Option(min=1, max=1000, help="Requests per second.")] = 20,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Duration of the measurement in seconds.")
    ] = 60,
    as_json: Json = False,
) -> None:
    """How long GET /admin/v1/assignments/{id} and the upload of a prompt take.

    Every request is sent when it is due, whether earlier ones have a response
    or not; every other one uploads a new text as the student prompt. Latencies
    are measured from the time when a request was due.

    With --processes 2 --assignments 4, two writers fence each other on the
    same partitions.
    """
    from tools.bench import api as command

    options = {"processes": processes, "assignments": assignments, "rate": rate}
    _measure("Api", command.run, as_json, **options, seconds=seconds)


@bench_app.command()
def audit(
    uploads: Annotated[int, typer.Option(min=2, help="Uploads in the log.")] = 1_000_000,
    assignments: Annotated[
        int, typer.Option(min=1, help="Assignments of these uploads.")
    ] = 100_000,
    batches: Annotated[
        int, typer.Option(min=1, help="Batches in the log, and as many requests.")
    ] = 200_000,
    as_json: Json = False,
) -> None:
    """How fast verify, replay and as-of read a log, and what memory they take.

    Each command runs as a process and is measured from its start to its end;
    for verify, seconds lists the reading of uploads and of outcomes separately.
    Batches name assignments at random. peak_mb is the memory of the command's
    largest process. Writing the log takes most of the time.
    """
    from tools.bench import audit as command

    _measure(
        "Audit", command.run, as_json, uploads=uploads, assignments=assignments, batches=batches
    )


@bench_app.command()
def replica(
    uploads: Annotated[int, typer.Option(min=1, help="Uploads in the log.")] = 220_000,
    assignments: Annotated[int, typer.Option(min=1, help="Assignments of these uploads.")] = 70_000,
    times: Annotated[int, typer.Option(min=1, help="Number of rebuilds.")] = 3,
    as_json: Json = False,
) -> None:
    """How fast the replica of a worker or an API process is built from the upload topics.

    Each rebuild starts with an empty folder, in a process of its own, and ends
    when the replica has reached the log's end; CPU is the time of all its
    threads. Then another process opens the same folder (warm_restart_ms).
    cjstream-plain is without compiled code.
    """
    from tools.bench import replica as command

    _measure("Replica", command.run, as_json, uploads=uploads, assignments=assignments, times=times)


@bench_app.command()
def join(
    requests: Annotated[int, typer.Option(min=1, help="Measured requests.")] = DEFAULT.requests,
    warm_up: Annotated[
        int, typer.Option(min=1, help="Requests before them, which are not measured.")
    ] = DEFAULT.warm_up,
    cool_down: Annotated[
        int, typer.Option(min=0, help="Requests after them, which are not measured.")
    ] = DEFAULT.cool_down,
    contexts: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Contexts, of two uploads each.")
    ] = DEFAULT.contexts,
    essays: Annotated[
        int, typer.Option(min=2, max=500, help="Essays in a request.")
    ] = DEFAULT.essays,
    zipf: Annotated[
        float,
        typer.Option(min=0, max=3, help="Exponent of the frequencies of contexts; 0: uniform."),
    ] = DEFAULT.zipf,
    workers: Annotated[int, typer.Option(min=1, max=8, help="Worker processes.")] = 1,
    rounds: Rounds = 2,
    only: Only = None,
    as_json: Json = False,
) -> None:
    """How fast requests are joined with their context, exactly once, beside peers on the same input.

    The systems are run in turn on one broker: cjstream; cjstream-plain, without
    compiled code; copy, an exactly-once byte copy by the same client library with
    the same batches; copy-pipelined,
    which fetches while it commits; kafka-streams-1 and -2, Kafka Streams with that
    many threads (exactly_once_v2, left join with a GlobalKTable, Avro serdes); and
    splicing-streams-1 and -2, the same without Avro, which copies ready bytes and
    does not check requests. Only on request: cjstream-metrics, whose metrics are
    scraped once a second.

    per_second counts committed outputs by the broker's append times, from the
    last one of the warm-up to the last measured one. CPU is that of the system's
    processes in that time; broker_cpu_us_per_record is the broker's. rss_mb is
    the peak memory of the system's processes. Every output is checked: each
    request has exactly one, in order, with its context.
    """
    from tools.bench.join import run as command

    shape = Shape(requests, warm_up, cool_down, contexts, essays, zipf)
    names = _systems(only)
    _measure("Join", command.run, as_json, shape=shape, rounds=rounds, workers=workers, only=names)


@bench_app.command()
def latency(
    rate: Rate = 100,
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of each run in seconds.")] = 30,
    contexts: Annotated[int, typer.Option(min=1, max=100_000, help="Contexts.")] = 1000,
    rounds: Rounds = 2,
    only: Only = None,
    as_json: Json = False,
) -> None:
    """How long a request waits at a low, steady rate, beside the peers of `bench join`.

    Measured from the append of the request, by the broker's clock, until a
    reader of committed records has its output; both in whole milliseconds. The
    first five seconds of each run are warm-up. Every output is checked.
    """
    from tools.bench import latency as command

    options = {"rate": rate, "seconds": seconds, "contexts": contexts}
    _measure("Latency", command.run, as_json, **options, rounds=rounds, only=_systems(only))


@bench_app.command()
def fold(
    uploads: Annotated[
        int, typer.Option(min=2, max=2_000_000, help="New uploads in each round.")
    ] = 100_000,
    contexts: Annotated[
        int, typer.Option(min=1, max=100_000, help="Contexts before, which requests use.")
    ] = DEFAULT.contexts,
    requests: Annotated[
        int, typer.Option(min=0, help="Measured requests to join beside; 0: only fold.")
    ] = 0,
    rounds: Rounds = 2,
    as_json: Json = False,
) -> None:
    """How fast uploads get into the worker's table, and what that takes from the join beside it.

    per_second counts uploads, from the append of the first to that of the last
    row in the table's changelog. The worker's replica reads the same uploads in
    that time.

    With --requests, the join is measured without uploads and then with that many
    uploads that wait to be folded, in turn; the replica must have them before
    the first request is joined. uploads_left_after_join must not be 0, or the
    fold ended too early.
    """
    from tools.bench import fold as command

    options = {"uploads": uploads, "contexts": contexts, "requests": requests}
    _measure("Fold", command.run, as_json, **options, rounds=rounds)


@bench_app.command()
def judging(
    essays: Annotated[int, typer.Option(min=5, max=1000, help="Essays of a batch.")] = 42,
    runs: Annotated[int, typer.Option(min=1, max=64, help="Batches judged at once.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each kind.")] = 3,
    as_json: Json = False,
) -> None:
    """How fast one judge process judges batches, with a simulated judge that answers at once.

    First single batches, then several at once, each from the append of the
    batches until a reader of committed records has their last result. CPU is
    that of the judge process alone. Then the engine by itself: a fit with
    covariance and reliability, and the planning of a wave, by number of essays.
    """
    from tools.bench import judging as command

    _measure("Judging", command.run, as_json, essays=essays, runs=runs, rounds=rounds)


@bench_app.command()
def growth(
    requests: Annotated[
        int, typer.Option(min=1, help="Measured requests of ten essays at each point.")
    ] = 200_000,
    max_contexts: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="No point has more contexts.")
    ] = 1_000_000,
    rounds: Rounds = 2,
    every: Annotated[
        bool, typer.Option("--every", help="Every combination, not one axis at a time.")
    ] = False,
    as_json: Json = False,
) -> None:
    """How the cost of a request grows with contexts, essays and workers.

    Points: 1,000 to 1,000,000 contexts, uniform and with Zipf's frequencies; 2,
    10 and 100 essays; 1 and 2 workers; one axis at a time from the default
    shape of `bench join`. Requests of more than ten essays are fewer, for about
    the same number of bytes. The byte copy is measured beside cjstream.
    """
    from tools.bench import growth as command

    shape = DEFAULT.scaled(requests / DEFAULT.requests)
    options = {"shape": shape, "max_contexts": max_contexts, "rounds": rounds, "every": every}
    _measure("Growth", command.run, as_json, **options)


@bench_app.command()
def report(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of the JSON files and plots; default: tools/reference/speed."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this measurement; may be repeated. The others' files stay."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, one round: to try it out.")
    ] = False,
    draw: Annotated[
        bool, typer.Option("--draw", help="Measure nothing; draw the plots of the JSON files.")
    ] = False,
) -> None:
    """Measure join, latency, fold, replica and growth, and write their figures and plots into a folder.

    The default folder is that of the reference page `tools/reference/speed.md`,
    which `.venv/bin/python -m tools.reference` then writes from the JSON files.
    The plots need matplotlib, which a checkout's environment has.
    """
    from tools.bench import report as command

    if unknown := {*(only or ())} - {*command.MEASUREMENTS}:
        raise Misconfigured(
            f"--only: {min(unknown)!r} is none of {', '.join(command.MEASUREMENTS)}"
        )
    names = () if draw else tuple(only or command.MEASUREMENTS)
    command.write(say, folder or REPORT_FOLDER, names, this_machine, quick=quick)


def _systems(only: list[str] | None) -> tuple[str, ...]:
    """The systems that were asked for, by default all. Raises Misconfigured for an unknown one."""
    from tools.bench.join.run import NAMES, WITH_METRICS

    if unknown := {*(only or ())} - {*NAMES, WITH_METRICS}:
        raise Misconfigured(
            f"--only: {min(unknown)!r} is none of {', '.join((*NAMES, WITH_METRICS))}"
        )
    return tuple(only or NAMES)


def _measure(title: str, run: Callable[..., Figures], as_json: bool, **options: Any) -> None:
    """Run a measurement; print the machine and the figures as JSON, or as a table of figures with their paths."""
    document: Figures = {"machine": this_machine()}  # before anything runs
    document |= run(say, **options)
    results: list[Figures] = [] if as_json else document.pop("results", [])
    shown = document if as_json else dict(_flat(document))
    print_fields(title, shown, as_json=as_json)
    if results:
        columns = [name for name in results[0] if name not in NOT_SHOWN]
        print_table("", tuple(columns), (tuple(map(result.get, columns)) for result in results))


def this_machine() -> dict[str, Any]:
    """The machine, and the load average of the last minute before anything is started."""
    from tools.jars import KAFKA_VERSION

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
    }


def _flat(document: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Spread):
            value = asdict(value)
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name} ")
        else:
            yield f"{path}{name}", value
