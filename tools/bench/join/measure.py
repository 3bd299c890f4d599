"""Measures systems in turn on one input, and compares them."""

import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from time import monotonic
from typing import TypeVar

from confluent_kafka import KafkaException

from processors.kafka.bounded_wait import wait_until
from processors.kafka.clients import admin_client, group_reader
from processors.kafka.offsets import committed_by, high_watermarks, last_stable_offsets
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import CJStreamError, Unreachable
from tools.bench.join import systems
from tools.bench.join.input_log import InputLog
from tools.bench.join.output_check import checked_append_times, measured_span
from tools.bench.join.resources import sampling
from tools.bench.join.systems import Run, System
from tools.bench.percentiles import Figures
from tools.bench.processes import WAIT_S
from tools.broker import Broker
from tools.processes import Say
from tools.progress import counted

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one run, of its measured part."""

    per_second: float
    cpu_us_per_record: float
    broker_cpu_us_per_record: float
    rss_mb: float  # peak of the whole run
    checked: int  # outputs of the whole run, all of them right
    outputs: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.per_second:,.0f} records per second"


def run_in_turn(
    settings: Settings,
    broker: Broker,
    log: InputLog,
    contestants: Mapping[str, System],
    rounds: int,
    say: Say,
    measure_one: Callable[[Run, System, str], M],
) -> dict[str, list[M]]:
    """Measure each system once per round, A B A B; what was measured of each."""
    runs = defaultdict[str, list[M]](list)
    for number, name in product(range(rounds), contestants):
        say(f"round {number + 1} of {rounds}: {name}")
        with tempfile.TemporaryDirectory(dir=settings.data_dir) as folder:
            index = sum(map(len, runs.values()))
            run = Run(index, settings, log, Path(folder), broker.libs, say)
            measured = measure_one(run, contestants[name], name)
        say(f"{name}: {measured}")
        runs[name].append(measured)
    return runs


def run_warm_in_turn(
    settings: Settings,
    broker: Broker,
    log: InputLog,
    contestants: Mapping[str, System],
    rounds: int,
    say: Say,
    measure_one: Callable[[Run, System, str], M],
) -> dict[str, list[M]]:
    """The same, after one run of the first system that does not count: Java compiles what the broker runs often."""
    say("warm-up of the broker")
    first = dict([*contestants.items()][:1])
    run_in_turn(settings, broker, log, first, 1, say, measure_one)
    return run_in_turn(settings, broker, log, contestants, rounds, say, measure_one)


def measure(run: Run, system: System, name: str, broker: Broker) -> Measured:
    """Run a system over the whole log. Raises Discrepancy if its output is not right, Unreachable if it stalls."""
    settings, log, output = run.settings, run.log, system.output(run)
    starts = dict.fromkeys(log.ends, 0)
    systems.begin(run, system, starts)
    with (
        system.start(run) as processes,
        sampling([process.pid for process in processes], broker.pid or 0) as samples,
    ):
        wait_until_committed(run, system.group(run), processes, name)
    wait_until_stable(settings, output)
    appended_ms = checked_append_times(settings, log, output, system.prefix_of(log), starts)
    if (
        output != settings.topics.batches.name
    ):  # a worker needs the outcomes of its offsets; `begin` deletes them
        systems.delete_topic(settings, output)
    span = measured_span(appended_ms, log.shape)
    cpu_s, broker_cpu_s = samples.cpu_s(span.start_ms, span.end_ms)
    return Measured(
        per_second=round(span.per_second, 1),
        cpu_us_per_record=round(cpu_s / max(1, span.outputs) * 1e6, 2),
        broker_cpu_us_per_record=round(broker_cpu_s / max(1, span.outputs) * 1e6, 2),
        rss_mb=round(samples.peak_rss_mb, 1),
        checked=len(appended_ms),
        outputs=span.outputs,
        seconds=round((span.end_ms - span.start_ms) / 1000, 3),
    )


def wait_until_committed(
    run: Run, group: str, processes: "Sequence[subprocess.Popen[bytes]]", name: str
) -> None:
    """Wait until the group has committed the end of the requests. Raises Unreachable if nothing moves for WAIT_S."""
    done, moved_at = 0, monotonic()
    with (
        closing(group_reader(run.settings, group)) as reader,
        counted(name, run.log.shape.total) as count,
    ):

        def has_committed_all() -> bool:
            nonlocal done, moved_at
            if any(process.poll() is not None for process in processes):
                raise CJStreamError(f"{name} ended by itself")
            try:
                committed = committed_by(reader, run.log.ends, WAIT_S)
            except KafkaException:  # its coordinator is starting
                return False
            now_done = sum(max(0, offset) for offset in committed.values())
            if now_done > done:
                count(now_done - done)
                done, moved_at = now_done, monotonic()
            elif monotonic() - moved_at > WAIT_S:
                raise Unreachable(f"{name} has committed nothing for {WAIT_S:g} s")
            return committed == run.log.ends

        wait_until(has_committed_all, seconds=24 * 3600, what=name, every_s=0.2)


def wait_until_stable(settings: Settings, topic: str) -> None:
    """Wait until the markers of the last transactions are written."""
    admin = admin_client(settings)
    partitions = [Partition(topic, number) for number in range(settings.partitions)]

    def is_stable() -> bool:
        try:
            return last_stable_offsets(admin, partitions) == high_watermarks(admin, partitions)
        except Unreachable:  # a busy machine
            return False

    wait_until(is_stable, seconds=WAIT_S, what="transactions to end")


def _best(rates: Mapping[str, float], prefix: str) -> float | None:
    return max((rate for name, rate in rates.items() if name.startswith(prefix)), default=None)


def compared(runs: Mapping[str, Sequence[Measured]], *, default_shape: bool) -> list[Figures]:
    """The medians of each system with their spread, and ratios to the copy and to each Kafka Streams at its best."""
    rates = {name: median(run.per_second for run in done) for name, done in runs.items()}
    references = {
        "of_copy": rates.get("copy"),
        "of_kafka_streams": _best(rates, "kafka-streams"),
        "of_splicing_streams": _best(rates, "splicing-streams"),
    }
    return [
        {
            "system": name,
            "default_shape": default_shape,
            "per_second": rates[name],
            "per_second_min": min(run.per_second for run in done),
            "per_second_max": max(run.per_second for run in done),
            **{
                figure: median(getattr(run, figure) for run in done)
                for figure in ("cpu_us_per_record", "broker_cpu_us_per_record", "rss_mb")
            },
            **{
                ratio: round(rates[name] / reference, 3) if reference else None
                for ratio, reference in references.items()
            },
            "runs": [asdict(run) for run in done],
        }
        for name, done in runs.items()
    ]
