"""`cjstream bench replica`: how fast the context replica is rebuilt from the topics, and how fast it restarts.

Each rebuild and each restart is a process of its own, `python -m tools.bench.replica FOLDER`, which prints its figures
as JSON. Nothing is appended, so there are no append times: the process takes the time itself.
"""

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import orjson

from processors.fold.replica_feed import ReplicaFeed, open_replica
from processors.kafka.offsets import high_watermarks_when_reachable
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, settings_from_environment
from schemas.coordinates import Positions
from schemas.errors import CJStreamError, Unreachable
from tables.replica import ContextReplica
from tables.scan.engine import load_engine
from tables.scan.scanner import Engine
from tools.bench.audit import Writer
from tools.bench.join.systems import ENGINES
from tools.bench.percentiles import Figures
from tools.installation import installation
from tools.printing import print_json
from tools.processes import Say, environment_of, module
from tools.progress import bar

REACH_S = 1800.0


def run(say: Say, *, uploads: int, assignments: int, times: int) -> Figures:
    """Write uploads, then rebuild a replica from them several times by each engine, in turn.

    Each replica is closed and opened again.
    """
    builds, restarts = (defaultdict[str, list[Figures]](list) for _ in range(2))
    with installation(say) as settings:
        writer = Writer(settings, assignments)
        for _ in bar(writer.write_uploads(0, uploads), "uploads", uploads):
            pass
        for number in bar(range(times), "rebuilds", times):
            for system, engine in ENGINES.items():
                own = settings.model_copy(update={"scan_engine": engine})
                folder = settings.data_dir / f"replica-{system}-{number}"
                builds[system].append(measure(own, folder))
                restarts[system].append(measure(own, folder))
    return {
        "uploads": uploads,
        "scopes": builds["cjstream"][0]["scopes"],
        "rounds": times,
        "results": [compared(name, uploads, builds[name], restarts[name]) for name in ENGINES],
    }


def measure(settings: Settings, folder: Path) -> Figures:
    """Open the replica in a folder in a process of its own, until it has reached the log's end; its figures."""
    usage = settings.data_dir / "usage.json"
    done = subprocess.run(
        module("tools.bench.usage", str(usage), *module("tools.bench.replica", str(folder))),
        env=environment_of(settings),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise CJStreamError(f"the replica's process ended with exit code {done.returncode}")
    figures: Figures = orjson.loads(done.stdout)
    return figures | {"rss_mb": orjson.loads(usage.read_bytes())["peak_mb"]}


def compared(
    system: str, uploads: int, builds: Sequence[Figures], restarts: Sequence[Figures]
) -> Figures:
    """The medians over all rebuilds of a system, with their spread."""
    rates = [round(uploads / build["seconds"], 1) for build in builds]
    return {
        "system": system,
        "per_second": median(rates),
        "per_second_min": min(rates),
        "per_second_max": max(rates),
        "cpu_us_per_record": round(median(build["cpu_s"] for build in builds) / uploads * 1e6, 2),
        "rss_mb": median(build["rss_mb"] for build in builds),
        "warm_restart_ms": round(median(restart["seconds"] for restart in restarts) * 1000, 1),
        "warm_restart_rss_mb": median(restart["rss_mb"] for restart in restarts),
        "runs": [*builds],
        "warm_restarts": [*restarts],
    }


@contextmanager
def caught_up(
    settings: Settings, engine: Engine, folder: Path, ends: Positions
) -> Iterator[ContextReplica]:
    """The replica in a folder, fed until it has reached the ends. Raises Unreachable if it does not."""
    faults: list[BaseException] = []
    replica = open_replica(settings, codec_for(settings), folder, engine=engine)
    feed = ReplicaFeed(settings, replica, faults.append)
    try:
        feed.start(replica.open({}))
        if replica.wait_past(ends, REACH_S):
            raise Unreachable(f"the replica did not reach the ends: {faults or 'too slow'}")
        yield replica
    finally:
        feed.stop()
        replica.close()


def main(folder: str) -> None:
    """Open a replica, feed it until it has reached the log's end, and print what that took."""
    settings = settings_from_environment()
    ends = high_watermarks_when_reachable(settings, settings.upload_partitions)
    engine = load_engine(settings.scan_engine, settings.data_dir / "numba")
    started, cpu = time.monotonic(), time.process_time()
    with caught_up(settings, engine, Path(folder), ends) as replica:
        seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu
        scopes = sum(1 for _ in replica.contexts())
    print_json({"seconds": seconds, "cpu_s": cpu_s, "scopes": scopes})


if __name__ == "__main__":
    main(*sys.argv[1:])
