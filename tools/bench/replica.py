"""`cjstream bench replica`: how fast the context replica is rebuilt from the topics, and how fast it restarts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processors.fold.replica_feed import ReplicaFeed, open_replica
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Positions
from schemas.errors import Unreachable
from tables.replica import ContextReplica
from tools.bench.audit import Writer
from tools.bench.percentiles import Figures, spread_of
from tools.installation import installation
from tools.processes import Say
from tools.progress import bar

REACH_S = 600.0


def run(say: Say, *, uploads: int, assignments: int, times: int) -> Figures:
    """Write uploads, then rebuild a replica from them several times; each is closed and opened again."""
    rates, cpu_us, restarts_ms = list[float](), list[float](), list[float]()
    with installation(say) as settings:
        writer = Writer(settings, assignments)
        for _ in bar(writer.write_uploads(0, uploads), "uploads", uploads):
            pass
        ends = high_watermarks_when_reachable(settings, settings.upload_partitions)
        for number in bar(range(times), "rebuilds", times):
            folder = settings.data_dir / f"replica-{number}"
            started, cpu = time.monotonic(), time.process_time()
            with caught_up(settings, folder, ends):
                rates.append(uploads / (time.monotonic() - started))
                cpu_us.append((time.process_time() - cpu) / uploads * 1e6)
            started = time.monotonic()
            with caught_up(settings, folder, ends) as replica:
                restarts_ms.append((time.monotonic() - started) * 1000)
                scopes = sum(1 for _ in replica.contexts())
    return {
        "uploads": uploads,
        "scopes": scopes,
        "rebuilds": times,
        "uploads_per_second": spread_of(rates),
        "cpu_us_per_upload": spread_of(cpu_us),
        "warm_restart_ms": spread_of(restarts_ms),
    }


@contextmanager
def caught_up(settings: Settings, folder: Path, ends: Positions) -> Iterator[ContextReplica]:
    """The replica in a folder, fed until it has reached the ends. Raises Unreachable if it does not."""
    faults: list[BaseException] = []
    replica = open_replica(settings, codec_for(settings), folder)
    feed = ReplicaFeed(settings, replica, faults.append)
    try:
        feed.start(replica.open({}))
        if replica.wait_past(ends, REACH_S):
            raise Unreachable(f"the replica did not reach the ends: {faults or 'too slow'}")
        yield replica
    finally:
        feed.stop()
        replica.close()
