"""`cjstream bench fold`: how fast uploads get into the worker's table, and what that takes from the join beside it."""

import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from processors.kafka.offsets import high_watermarks_when_reachable
from processors.kafka.records import append_time_of
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Positions
from schemas.errors import Discrepancy
from tools.bench.join import measure as join
from tools.bench.join import systems
from tools.bench.join.input_log import ROLES, InputLog
from tools.bench.join.resources import sampling
from tools.bench.join.shape import Shape
from tools.bench.join.systems import Run, Workers
from tools.bench.percentiles import Figures
from tools.broker import Broker
from tools.installation import installation_and_broker
from tools.processes import Say


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one fold of the uploads, from the first to the last row in the table's changelog."""

    per_second: float  # uploads
    cpu_us_per_record: float  # of the worker, per upload
    broker_cpu_us_per_record: float
    rss_mb: float
    uploads: int
    rows: int  # written to the changelog
    seconds: float


def run(say: Say, *, uploads: int, contexts: int, requests: int, rounds: int) -> Figures:
    """Fold new uploads once per round; then, if there are requests, join them without and with uploads to be folded."""
    each = max(1, uploads // len(ROLES))  # assignments in a round
    shape = Shape(requests, max(1, requests // 3), requests // 6, contexts)
    with installation_and_broker(say) as (settings, broker):
        log = InputLog(settings, shape)
        log.write_uploads()
        workers = Workers("cjstream", settings, 1, say)
        workers.catch_up()
        end = shape.contexts
        folds = list[Measured]()
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: {each * len(ROLES)} uploads")
            log.write_uploads_of(range(end, end + each))
            end += each
            folds.append(measure(settings, broker, workers, each * len(ROLES)))
            say(f"{folds[-1].per_second:,.0f} uploads per second")
        beside: Figures = {}
        if requests:
            log.write_requests()
            beside = join_beside(
                settings, broker, log, workers, range(end, end + each), rounds, say
            )
    return {
        "uploads": each * len(ROLES),
        "contexts": contexts,
        "requests": requests,
        "rounds": rounds,
        "results": [medians(folds)],
        **beside,
    }


def measure(settings: Settings, broker: Broker, workers: Workers, uploads: int) -> Measured:
    """Run the worker until it has folded the uploads that were just appended."""
    partitions = settings.partitions_of(settings.topics.context)
    starts = high_watermarks_when_reachable(settings, partitions)
    with (
        workers.running() as processes,
        sampling([process.pid for process in processes], broker.pid or 0) as samples,
    ):
        workers.wait_until_folded()
    appended_ms = append_times(settings, starts)
    start_ms, end_ms = min(appended_ms), max(appended_ms)
    cpu_s, broker_cpu_s = samples.cpu_s(start_ms, end_ms)
    seconds = max(1, end_ms - start_ms) / 1000
    return Measured(
        per_second=round(uploads / seconds, 1),
        cpu_us_per_record=round(cpu_s / uploads * 1e6, 2),
        broker_cpu_us_per_record=round(broker_cpu_s / uploads * 1e6, 2),
        rss_mb=round(samples.peak_rss_mb, 1),
        uploads=uploads,
        rows=len(appended_ms),
        seconds=round(seconds, 3),
    )


def append_times(settings: Settings, starts: Positions) -> "array[int]":
    """The append times of the rows that were written to the changelog after these offsets. Raises Discrepancy."""
    times = array("q")
    with LogReader(settings, starts) as reader:
        reader.seek(starts)
        for messages in reader.messages_until(high_watermarks_when_reachable(settings, starts)):
            times.extend(map(append_time_of, messages))
    if not times:
        raise Discrepancy("the worker has written no row to the changelog")
    return times


def join_beside(
    settings: Settings,
    broker: Broker,
    log: InputLog,
    workers: Workers,
    backlog: range,
    rounds: int,
    say: Say,
) -> Figures:
    """The rate of the join without and with uploads that are folded meanwhile, in turn."""
    system = systems.cjstream(workers)
    quiet, meanwhile, left = list[join.Measured](), list[join.Measured](), list[int]()

    def measured(what: str) -> join.Measured:
        say(f"joining {what}")
        with tempfile.TemporaryDirectory(dir=settings.data_dir) as folder:
            one = Run(len(left), settings, log, Path(folder), broker.libs, say)
            return join.measure(one, system, "cjstream", broker)

    for _ in range(rounds):
        quiet.append(measured("without uploads"))
        log.write_uploads_of(backlog)
        backlog = range(backlog.stop, backlog.stop + len(backlog))
        meanwhile.append(measured("while uploads are folded"))
        left.append(workers.uploads_left())
        workers.catch_up()
    rates = [median(run.per_second for run in runs) for runs in (quiet, meanwhile)]
    return {
        "join_without_uploads": {"per_second": rates[0], "runs": [*map(asdict, quiet)]},
        "join_beside_fold": {"per_second": rates[1], "runs": [*map(asdict, meanwhile)]},
        "join_ratio": round(rates[1] / rates[0], 3) if rates[0] else None,
        # of the backlog, when all requests were joined; 0: the fold ended before the join did
        "uploads_left_after_join": left,
    }


def medians(folds: Sequence[Measured]) -> Figures:
    """The median of each figure, and the spread of the rates."""
    runs = [asdict(fold) for fold in folds]
    rates = [fold.per_second for fold in folds]
    return {
        "system": "cjstream",
        **{name: median(run[name] for run in runs) for name in runs[0]},
        "per_second_min": min(rates),
        "per_second_max": max(rates),
        "runs": runs,
    }
