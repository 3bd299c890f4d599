"""A worker with planned faults: it kills or freezes itself in a transaction, or has a wrong clock or a full disk."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import processors.worker
from processors.app import Worker, build_worker
from processors.fold.fold_agents import Fail
from processors.settings import Settings, settings_from_environment
from schemas.codec import Codec
from tables.scan.scanner import Engine
from tests.faults.planned_faults import MOUNT, Plan, log_line, with_plan
from tools.worker import run

COMMAND = ("-m", "tests.faults.faulty_worker")


def build_faulty_worker(plan: Plan) -> Callable[[Settings, Fail, Codec, Engine], Worker]:
    """A `build_worker` whose workers have a producer that follows the plan."""

    def build(settings: Settings, fatal: Fail, codec: Codec, engine: Engine) -> Worker:
        worker = build_worker(settings, fatal, codec, engine)
        producer = worker.batch_prep.producer
        producer.new_producer = with_plan(producer.new_producer, plan)
        if plan.disk_bytes:
            fill(replica_folder(settings))
        return worker

    return build


def replica_folder(settings: Settings) -> Path:
    """The folder of a worker's replica."""
    return settings.worker_dir / "replica"


def fill(folder: Path) -> None:
    """Fill the disk of a folder completely."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(512)):
            pass
    log_line("the replica's disk is full")


def restart_on_small_disk(folder: Path, size_bytes: int) -> None:
    """Replace this process by one with its own disk mounted at the folder; it ends if that is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    script = 'mount -t tmpfs -o size="$1" none "$0" && shift && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder)]
    os.execvp(command[0], [*command, str(size_bytes), sys.executable, *COMMAND])


def main() -> None:
    """Run a worker with the plan in the environment."""
    plan = Plan.from_environment(os.environ)
    settings = settings_from_environment()
    if plan.disk_bytes and os.environ.pop(MOUNT, ""):
        restart_on_small_disk(replica_folder(settings), plan.disk_bytes)
    if plan.clock_offset_s:
        true_time = time.time
        time.time = lambda: true_time() + plan.clock_offset_s
    vars(processors.worker)["build_worker"] = build_faulty_worker(plan)
    run(settings)


if __name__ == "__main__":
    main()
