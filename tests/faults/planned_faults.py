"""A process's planned faults: its producer kills or freezes it at a point of a transaction.

The plan is in the environment of one process. The product has no code for it: the process gets a wrapped producer.
Nothing here imports the product: a process with a plan starts as fast as one without.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import orjson
from confluent_kafka import Producer

VARIABLE = "PLAN"
MOUNT = "PLAN_MOUNT"
POINTS = ("producing", "produced", "offsets", "committing", "committed")
KINDS = ("any", "parks", "releases")
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
        else:  # this thread at once: after `os.kill`, it could go on until another thread has met the signal
            signal.pthread_kill(threading.get_ident(), number)
        threading.Event().wait(self._plan.linger_s)


def log_line(line: str) -> None:
    """Write one line to the worker's log."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def with_plan(new_producer: Callable[[], Producer], plan: Plan) -> Callable[[], Any]:
    """A factory of producers that follow the plan."""
    counts = dict[str, int]()
    return lambda: Watched(new_producer(), plan, counts)
