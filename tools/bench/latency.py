"""`cjstream bench latency`: how long a request waits at a low, steady rate, beside peers."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from statistics import median

from processors.kafka.bounded_wait import wait_until
from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import Deliveries, enqueue
from processors.kafka.records import Record, append_time_of, coordinates_of
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Unreachable
from tools.bench.events import now_ms
from tools.bench.join import systems
from tools.bench.join.input_log import InputLog
from tools.bench.join.measure import run_warm_in_turn, wait_until_stable
from tools.bench.join.output_check import checked_append_times
from tools.bench.join.resources import sampling
from tools.bench.join.run import contestants_of
from tools.bench.join.shape import Shape
from tools.bench.join.systems import Run, System
from tools.bench.percentiles import Figures, percentile
from tools.bench.processes import WAIT_S
from tools.bench.traffic import in_the_background
from tools.broker import Broker
from tools.installation import installation_and_broker
from tools.processes import Say
from tools.progress import bar

WARM_UP_S = 5.0
PERCENTS = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "max_ms": 100}
SeenMs = dict[int, list[int]]  # when each output of a partition was read


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one run: from the append of a request until a reader of committed records has its output."""

    requests: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    cpu_percent: float  # of one core
    rss_mb: float

    def __str__(self) -> str:
        return f"p50 {self.p50_ms:g} ms, p99 {self.p99_ms:g} ms"


def run(
    say: Say, *, rate: float, seconds: float, contexts: int, rounds: int, only: Sequence[str]
) -> Figures:
    """Measure each system in turn, once per round."""
    shape = Shape(
        warm_up=max(1, round(rate * WARM_UP_S)),
        requests=max(1, round(rate * seconds)),
        cool_down=0,
        contexts=contexts,
    )
    with installation_and_broker(say) as (settings, broker):
        log = InputLog(settings, shape)
        log.write_uploads()
        contestants = contestants_of(only, settings, log, broker.libs, 1, say)
        requests = log.endless_request_records()
        one = partial(measure, broker=broker, requests=requests, rate=rate)
        runs = run_warm_in_turn(settings, broker, log, contestants, rounds, say, one)
    return {
        "rate_per_s": rate,
        "seconds": seconds,
        "contexts": contexts,
        "rounds": rounds,
        "results": [medians(name, done) for name, done in runs.items()],
    }


def measure(
    run: Run, system: System, _name: str, broker: Broker, requests: Iterator[Record], rate: float
) -> Measured:
    """Send requests at a steady rate, those of the warm-up first. Raises Discrepancy if an output is not right."""
    settings, log, shape = run.settings, run.log, run.log.shape
    output, starts = system.output(run), log.ends
    systems.begin(run, system, starts)
    with (
        system.start(run) as processes,
        reading(settings, output) as seen_ms,
        sampling([process.pid for process in processes], broker.pid or 0) as samples,
    ):
        warm_up = bar(islice(requests, shape.warm_up), "warm-up", shape.warm_up)
        send(settings, warm_up, rate)
        wait_until_seen(seen_ms, shape.warm_up)
        start_ms = now_ms()
        measured = bar(islice(requests, shape.requests), "requests", shape.requests)
        appended_ms = send(settings, measured, rate)
        wait_until_seen(seen_ms, shape.total)
        cpu_s, _ = samples.cpu_s(start_ms, now_ms())
        seconds = (now_ms() - start_ms) / 1000
    wait_until_stable(settings, output)
    checked_append_times(settings, log, output, system.prefix_of(log), starts)
    latencies = sorted(latencies_ms(appended_ms, seen_ms, starts))
    return Measured(
        len(latencies),
        **{name: percentile(latencies, percent) for name, percent in PERCENTS.items()},
        cpu_percent=round(100 * cpu_s / seconds, 1),
        rss_mb=round(samples.peak_rss_mb, 1),
    )


def send(settings: Settings, records: Iterable[Record], rate: float) -> dict[Coordinates, int]:
    """Append requests at a steady rate, whether there are outputs or not; their append times in ms."""
    producer, deliveries = plain_producer(settings, **{"linger.ms": 0}), Deliveries()
    start = time.monotonic()
    for number, record in enumerate(records):
        while (early_s := start + number / rate - time.monotonic()) > 0:
            producer.poll(early_s)
        enqueue(producer, record, on_delivery=deliveries.expect_report())
    if producer.flush(WAIT_S) or deliveries.undelivered:
        raise Unreachable("the broker did not acknowledge all requests")
    return {coordinates_of(message): append_time_of(message) for message in deliveries.messages}


@contextmanager
def reading(settings: Settings, topic: str) -> Iterator[SeenMs]:
    """When a reader of committed records had each output, filled until the end of the block."""
    seen_ms: SeenMs = defaultdict(list)
    partitions = [Partition(topic, number) for number in range(settings.partitions)]

    def read(stop: threading.Event) -> None:
        with LogReader(settings, partitions) as reader:
            reader.seek(dict.fromkeys(partitions, 0))
            while not stop.is_set():
                for record in reader.read():
                    seen_ms[record.at.partition].append(now_ms())

    with in_the_background(read):
        yield seen_ms


def wait_until_seen(seen_ms: SeenMs, count: int) -> None:
    """Wait until that many outputs were read. Raises Unreachable."""
    wait_until(
        lambda: sum(map(len, [*seen_ms.values()])) >= count,
        seconds=WAIT_S,
        what=f"{count} outputs",
    )


def latencies_ms(
    appended_ms: Mapping[Coordinates, int], seen_ms: SeenMs, starts: Positions
) -> Iterator[int]:
    """The latency of each request: the n-th output of a partition belongs to its n-th request after the start."""
    for at, ms in appended_ms.items():
        start = starts[Partition(at.topic, at.partition)]
        yield seen_ms[at.partition][at.offset - start] - ms


def medians(name: str, runs: Sequence[Measured]) -> Figures:
    """The median of each figure over the runs of a system."""
    figures = [asdict(run) for run in runs]
    return {
        "system": name,
        **{figure: median(run[figure] for run in figures) for figure in figures[0]},
        "runs": figures,
    }
