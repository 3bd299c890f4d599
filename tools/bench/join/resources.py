"""CPU time and memory of process trees while they run, sampled."""

import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil

from tools.bench.events import now_ms
from tools.bench.traffic import in_the_background

EVERY_S = 0.25  # a sample takes about 3 ms of a core from what is measured


class Sample(NamedTuple):
    """What process trees have used until one moment."""

    at_ms: float
    cpu_s: float
    broker_cpu_s: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of a run, in the order of time."""

    taken: list[Sample] = field(default_factory=list)

    @property
    def peak_rss_mb(self) -> float:
        """The largest memory of the measured processes together."""
        return max(sample.rss_mb for sample in self.taken)

    def cpu_s(self, start_ms: float, end_ms: float) -> tuple[float, float]:
        """The CPU seconds of the measured processes and of the broker between two moments, interpolated."""
        start, end = self._at(start_ms), self._at(end_ms)
        return end.cpu_s - start.cpu_s, end.broker_cpu_s - start.broker_cpu_s

    def _at(self, moment_ms: float) -> Sample:
        index = bisect_left(self.taken, moment_ms, key=lambda sample: sample.at_ms)
        after = self.taken[min(index, len(self.taken) - 1)]
        before = self.taken[max(0, index - 1)]
        span = after.at_ms - before.at_ms
        share = min(1.0, max(0.0, (moment_ms - before.at_ms) / span)) if span else 0.0
        return Sample(
            *(low + share * (high - low) for low, high in zip(before, after, strict=True))
        )


@contextmanager
def sampling(pids: list[int], broker_pid: int) -> Iterator[Samples]:
    """Sample these processes with their children, and the broker, until the end of the block."""
    samples = Samples()
    with in_the_background(lambda stop: _sample(samples, pids, broker_pid, stop)):
        yield samples


def _sample(samples: Samples, pids: list[int], broker_pid: int, stop: threading.Event) -> None:
    while not stop.wait(EVERY_S):
        at_ms = now_ms()
        used = [_used(pid) for pid in pids]
        broker_cpu_s, _ = _used(broker_pid)
        cpu_s, rss_mb = (sum(column) for column in zip(*used, strict=True))
        samples.taken.append(Sample(at_ms, cpu_s, broker_cpu_s, rss_mb))


def _used(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MiB of a process and its children; of those that have ended, nothing."""
    cpu_s = rss_mb = 0.0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0, 0.0
    for process in processes:
        try:
            times = process.cpu_times()
            cpu_s += times.user + times.system
            rss_mb += process.memory_info().rss / 2**20
        except psutil.NoSuchProcess:
            continue
    return cpu_s, rss_mb
