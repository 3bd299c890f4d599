"""The base of a simulation: one virtual clock, one random generator, and actors that take turns.

An actor is a thread that runs only while it has the turn, so that the product's blocking code runs unchanged and
a history can be repeated exactly. It yields the turn when it must wait, or at a client call: there it can be paused
or killed, before or after the effect of the call.
"""

import random
from collections.abc import Callable
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from tests.simulation.group import Group
from tests.simulation.log import Cluster

START_MS = 1_800_000_000_000
FOREVER = float("inf")
INSTANT_S = 1e-6
UNRECORDED_WHEN_CALM = {"poll", "group metadata"}  # repeated endlessly while all actors wait


class Killed(BaseException):
    """The process was killed: its threads end at the current call."""


class Turn:
    """A thread that runs only between `resume` and `pause`."""

    def __init__(self) -> None:
        self._may_run, self._has_paused = Lock(), Lock()
        self._may_run.acquire()
        self._has_paused.acquire()
        self._work: Callable[[], None] | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._may_run.acquire()
            if self._work is None:
                return
            self._work()
            self._work = None
            self._has_paused.release()

    def start(self, work: Callable[[], None]) -> None:
        """Set the function that runs at the first `resume`."""
        self._work = work

    def resume(self) -> None:
        """Let the thread run until it pauses or its function returns."""
        self._may_run.release()
        self._has_paused.acquire()

    def pause(self) -> None:
        """Called on the thread itself: wait until the next `resume`."""
        self._has_paused.release()
        self._may_run.acquire()


IDLE = list[Turn]()  # threads are created once and reused by later histories


class Actor:
    """One thread of one worker."""

    def __init__(self, world: "World", name: str, work: Callable[[], None]) -> None:
        self._world = world
        self.name = name
        self._turn = IDLE.pop() if IDLE else Turn()
        self._turn.start(lambda: self._run_to_end(work))
        self.has_ended = False
        self.is_killed = False
        self.fault: Exception | None = None
        self.waits_for: Callable[[], bool] | None = None
        self.until = FOREVER
        self._calls_left = 0  # until it must pause
        self._kill_at_pause = False
        self.rounds = 0

    def _run_to_end(self, work: Callable[[], None]) -> None:
        try:
            if not self.is_killed:
                work()
        except Killed:
            pass
        except Exception as fault:  # noqa: BLE001 (it ended the worker; the test checks it)
            self.fault = fault
        self.has_ended = True

    def run(self, calls: int, *, kill: bool = False) -> None:
        """Let it run until the end of a round, until it must wait, or until its client call number `calls`."""
        if self.has_ended:
            return
        if self.waits_for is not None and not self.waits_for():
            if self.until == FOREVER:
                return
            self._world.advance(max(0.0, self.until - self._world.cluster.now_s))
        self._calls_left, self._kill_at_pause = calls, kill
        self._resume()

    def kill(self) -> None:
        """End it at the call where it is paused."""
        self.is_killed = True
        if not self.has_ended:
            self._resume()

    def _resume(self) -> None:
        previous, self._world.running = self._world.running, self
        self._turn.resume()
        self._world.running = previous
        if self.has_ended:
            IDLE.append(self._turn)

    def pause(self) -> None:
        """Yield the turn."""
        self._turn.pause()
        if self.is_killed:
            raise Killed

    def before_or_after_call(self) -> None:
        """Called directly before and after each client call: pause or die if it must not run further in this turn."""
        if self.is_killed:
            raise Killed
        self._calls_left -= 1
        if self._calls_left == 0:
            if self._kill_at_pause:
                self.is_killed = True
                raise Killed
            self.pause()

    def end_round(self) -> None:
        """Yield the turn at the end of a round of the loop."""
        self.rounds += 1
        self.pause()

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait up to `seconds` of virtual time for a condition; returns whether it is true."""
        self.waits_for, self.until = condition, self._world.cluster.now_s + seconds
        while not condition() and self._world.cluster.now_s + INSTANT_S < self.until:
            self.pause()
        self.waits_for = None
        return condition()


class World:
    """The cluster, group, clock and random generator of one history."""

    def __init__(self, cluster: Cluster, group: Group, seed: int) -> None:
        self.cluster = cluster
        self.group = group
        self.random = random.Random(seed)
        self.running: Actor | None = None
        self.is_calm = False  # there are no more faults
        self.on_advance: Callable[[], None] = lambda: None
        self.lines = list[str]()
        self.records_lines = False
        cluster.now_ms = START_MS

    def advance(self, seconds: float) -> None:
        """Let time pass, and apply the timeouts."""
        self.cluster.now_s += seconds
        self.cluster.now_ms = START_MS + int(self.cluster.now_s * 1000)
        self.on_advance()
        self.group.expire(self.cluster.now_s)
        self.cluster.expire()

    def monotonic(self) -> float:
        return self.cluster.now_s

    def sleep(self, seconds: float) -> None:
        assert self.running is not None
        self.running.wait(lambda: False, seconds)

    def happens(self, probability: float) -> bool:
        """Whether a random fault happens now; never after faults have stopped."""
        return not self.is_calm and self.random.random() < probability

    def record(self, line: str) -> None:
        """Add a line to the report of the history, if it is recorded."""
        if self.records_lines and not (self.is_calm and line in UNRECORDED_WHEN_CALM):
            name = self.running.name if self.running else "world"
            self.lines.append(f"{self.cluster.now_s:8.2f}  {name:10} {line}")


class TurnLock:
    """A reentrant lock for actors that take turns."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner: Actor | None = None
        self._depth = 0

    def __enter__(self) -> Self:
        actor = self._world.running
        if actor is not None and self._owner is not actor:
            actor.wait(lambda: self._owner is None, FOREVER)
        self._owner = actor
        self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
