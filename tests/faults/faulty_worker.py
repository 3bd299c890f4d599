"""A worker as any other, but for what its plan says: where it falls or stands still, its clock, its disk.

The plan stands in the environment, for one life. Nothing of it is in the product: a producer that watches its own
calls is lent to the worker where the real one would be.
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
from tools.worker import run

VARIABLE = "PLAN"
MOUNT = "PLAN_MOUNT"
POINTS = ("producing", "produced", "offsets", "committing", "committed")
KINDS = ("any", "parks", "releases")
COMMAND = ("-m", "tests.faults.faulty_worker")
Does = Literal["", "kill", "stop"]


@dataclass(frozen=True)
class Plan:
    """One life's faults; `Plan()` has none."""

    does: Does = ""  # to itself, once
    point: str = "offsets"  # one of POINTS
    kind: str = "any"  # of transaction: one of KINDS
    nth: int = 1  # transaction of that kind
    after_ms: float = 0  # from the point; for `committing`, into the commit
    linger_s: float = 0  # at the point once it is thawed: its clients learn what they missed
    clock_off_s: float = 0
    disk_bytes: int = 0  # under the replica, all of it full once the worker is built; 0: as it is

    def told(self) -> dict[str, str]:
        """The plan as environment variables; the second says that the disk is yet to be put in place."""
        return {VARIABLE: orjson.dumps(self).decode(), MOUNT: "yes" * bool(self.disk_bytes)}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The plan that was told."""
        return cls(**orjson.loads(environment.get(VARIABLE, "{}")))


class Watched:
    """A transactional producer whose process falls or stands still at the planned point."""

    def __init__(self, producer: Producer, plan: Plan, seen: dict[str, int]) -> None:
        self._producer = producer
        self._plan = plan
        self._seen = seen  # transactions by kind, over all of the worker's producers
        self._kinds = set[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def begin_transaction(self) -> None:
        self._kinds = {"any"}
        self._producer.begin_transaction()

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, *more: Any, **named: Any
    ) -> None:
        if "parked" in topic and key != b"clock":
            self._kinds.add("parks" if value is not None else "releases")
        self._producer.produce(topic, value, key, *more, **named)
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
            self._seen[kind] = self._seen.get(kind, 0) + 1

    def _is_due(self, point: str) -> bool:
        plan = self._plan
        nth = self._seen.get(plan.kind, 0) + 1
        return plan.point == point and plan.kind in self._kinds and nth == plan.nth

    def _reached(self, point: str) -> None:
        if not self._plan.does or not self._is_due(point):
            return
        number = signal.SIGKILL if self._plan.does == "kill" else signal.SIGSTOP
        self._seen[self._plan.kind] = self._plan.nth  # once
        say(f"falls at {point}, kind {self._plan.kind}: {self._plan.does}")
        if self._plan.after_ms:
            threading.Timer(self._plan.after_ms / 1000, os.kill, (os.getpid(), number)).start()
        else:
            os.kill(os.getpid(), number)
        threading.Event().wait(self._plan.linger_s)


def say(line: str) -> None:
    """One line into the worker's log."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def watching(new_producer: Callable[[], Producer], plan: Plan) -> Callable[[], Any]:
    """Makes producers that keep to the plan."""
    seen = dict[str, int]()
    return lambda: Watched(new_producer(), plan, seen)


def faulty(plan: Plan) -> Callable[[Settings, Fail, Codec], Worker]:
    """Builds workers as ever, and lends them a producer that keeps to the plan."""

    def build(settings: Settings, fatal: Fail, codec: Codec) -> Worker:
        worker = build_worker(settings, fatal, codec)
        producer = worker.batch_prep.producer
        producer.new_producer = watching(producer.new_producer, plan)
        if plan.disk_bytes:
            fill(replica_folder(settings))
        return worker

    return build


def replica_folder(settings: Settings) -> Path:
    """Where a worker's replica lies."""
    return settings.worker_dir / "replica"


def fill(folder: Path) -> None:
    """Leave no byte free on the folder's disk."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(512)):
            pass
    say("the replica's disk is full")


def on_a_small_disk(folder: Path, size: int) -> None:
    """Become the same process with a disk of its own under the folder; without the right to, end."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = 'mount -t tmpfs -o size="$1" none "$0" && shift && exec "$@"'
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, str(folder)]
    os.execvp(own[0], [*own, str(size), sys.executable, *COMMAND])


def main() -> None:
    """Run a worker by its plan."""
    plan = Plan.from_environment(os.environ)
    settings = settings_from_environment()
    if plan.disk_bytes and os.environ.pop(MOUNT, ""):
        on_a_small_disk(replica_folder(settings), plan.disk_bytes)
    if plan.clock_off_s:
        true_time = time.time
        time.time = lambda: true_time() + plan.clock_off_s
    vars(processors.worker)["build_worker"] = faulty(plan)
    run(settings)


if __name__ == "__main__":
    main()
