"""A worker with planned faults: it kills or freezes itself in a transaction, or has a wrong clock or a full disk.

The plan is in the environment of one process. The product has no code for it: the worker gets a wrapped producer,
which injects the fault into its own calls.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import orjson
from confluent_kafka import Producer

import processors.worker
from processors.app import Worker, build_worker
from processors.fold.fold_agents import Fail
from processors.settings import Settings, settings_from_environment
from schemas.codec import Codec
from tables.scan.scanner import Engine
from tools.worker import run

VARIABLE = "PLAN"
MOUNT = "PLAN_MOUNT"
POINTS = ("producing", "produced", "offsets", "committing", "committed")
KINDS = ("any", "parks", "releases")
COMMAND = ("-m", "tests.faults.faulty_worker")
Action = Literal["", "kill", "stop"]


@dataclass(frozen=True)
class Plan:
    """The planned faults of one worker process; `Plan()` has none."""

    action: Action = ""  # what the worker does to itself, once
    point: str = "offsets"  # one of POINTS
    kind: str = "any"  # of the transaction: one of KINDS
    nth: int = 1  # which transaction of that kind, from 1
    after_ms: float = 0  # delay after the point; for `committing` the commit is then under way
    linger_s: float = 0  # pause at the point after the thaw, in which its clients catch up
    clock_offset_s: float = 0
    disk_bytes: int = 0  # size of the replica's disk, filled once the worker is built; 0: unchanged

    def variables(self) -> dict[str, str]:
        """The plan as environment variables; the second says that the disk has yet to be mounted."""
        return {VARIABLE: orjson.dumps(self).decode(), MOUNT: "yes" * bool(self.disk_bytes)}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The plan in environment variables; `Plan()` if there is none."""
        return cls(**orjson.loads(environment.get(VARIABLE, "{}")))


class Watched:
    """A transactional producer that kills or freezes its process at the planned point."""

    def __init__(self, producer: Producer, plan: Plan, counts: dict[str, int]) -> None:
        self._producer = producer
        self._plan = plan
        self._counts = counts  # transactions by kind, of all producers of the worker
        self._kinds = set[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def begin_transaction(self) -> None:
        self._kinds = {"any"}
        self._producer.begin_transaction()

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, *arguments: Any, **options: Any
    ) -> None:
        if "parked" in topic and key != b"clock":
            self._kinds.add("parks" if value is not None else "releases")
        self._producer.produce(topic, value, key, *arguments, **options)
        self._reached("producing")

    def send_offsets_to_transaction(self, *arguments: Any) -> None:
        if self._is_due("produced"):
            self._producer.flush(5)
        self._reached("produced")
        self._producer.send_offsets_to_transaction(*arguments)
        self._reached("offsets")

    def commit_transaction(self, *arguments: Any) -> None:
        self._reached("committing")
        self._producer.commit_transaction(*arguments)
        self._reached("committed")
        for kind in self._kinds:
            self._counts[kind] = self._counts.get(kind, 0) + 1

    def _is_due(self, point: str) -> bool:
        plan = self._plan
        nth = self._counts.get(plan.kind, 0) + 1
        return plan.point == point and plan.kind in self._kinds and nth == plan.nth

    def _reached(self, point: str) -> None:
        if not self._plan.action or not self._is_due(point):
            return
        number = signal.SIGKILL if self._plan.action == "kill" else signal.SIGSTOP
        self._counts[self._plan.kind] = self._plan.nth  # only once
        log_line(f"planned fault at {point}, kind {self._plan.kind}: {self._plan.action}")
        if self._plan.after_ms:
            threading.Timer(self._plan.after_ms / 1000, os.kill, (os.getpid(), number)).start()
        else:
            os.kill(os.getpid(), number)
        threading.Event().wait(self._plan.linger_s)


def log_line(line: str) -> None:
    """Write one line to the worker's log."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def with_plan(new_producer: Callable[[], Producer], plan: Plan) -> Callable[[], Any]:
    """A factory of producers that follow the plan."""
    counts = dict[str, int]()
    return lambda: Watched(new_producer(), plan, counts)


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
