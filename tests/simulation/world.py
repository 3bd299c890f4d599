"""What a simulation runs on: one virtual clock, one source of chance, and actors that take turns.

An actor is a thread of its own that runs only while it has the turn, so that the product's blocking code runs
unchanged and a history is the same whenever it is run. It gives the turn back at a call into a client (there it
can be left standing, or killed, before the call's effect or after it), or where it has to wait.
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
DULL = {"poll", "group metadata"}  # at the end, when everybody only waits


class Killed(BaseException):
    """The process was killed: its threads end where they stand."""


class Turn:
    """A thread that runs only when it is let, and says when it stops."""

    def __init__(self) -> None:
        self._go, self._done = Lock(), Lock()
        self._go.acquire()
        self._done.acquire()
        self._work: Callable[[], None] | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._work is None:
                return
            self._work()
            self._work = None
            self._done.release()

    def start(self, work: Callable[[], None]) -> None:
        """What it does when it is first let."""
        self._work = work

    def let(self) -> None:
        """Let it run until it gives the turn back."""
        self._go.release()
        self._done.acquire()

    def give_back(self) -> None:
        """From inside: stop until it is let again."""
        self._done.release()
        self._go.acquire()


IDLE = list[Turn]()  # threads are made once, and serve one history after the other


class Actor:
    """One thread of one worker."""

    def __init__(self, world: "World", name: str, work: Callable[[], None]) -> None:
        self._world = world
        self.name = name
        self._turn = IDLE.pop() if IDLE else Turn()
        self._turn.start(lambda: self._all_of(work))
        self.is_over = False
        self.is_killed = False
        self.fault: Exception | None = None
        self.waits: Callable[[], bool] | None = None
        self.until = FOREVER
        self._calls = 0  # until it is to stand
        self._kill_there = False
        self.rounds = 0

    def _all_of(self, work: Callable[[], None]) -> None:
        try:
            if not self.is_killed:
                work()
        except Killed:
            pass
        except Exception as fault:  # noqa: BLE001 (it ended the worker; the test judges it)
            self.fault = fault
        self.is_over = True

    def run(self, calls: int, *, kill: bool = False) -> None:
        """Let it run for a round, or to where it has to wait, at most to its calls-th client call."""
        if self.is_over:
            return
        if self.waits is not None and not self.waits():
            if self.until == FOREVER:
                return
            self._world.advance(max(0.0, self.until - self._world.cluster.now_s))
        self._calls, self._kill_there = calls, kill
        self._let()

    def kill(self) -> None:
        """End it where it stands."""
        self.is_killed = True
        if not self.is_over:
            self._let()

    def _let(self) -> None:
        before, self._world.running = self._world.running, self
        self._turn.let()
        self._world.running = before
        if self.is_over:
            IDLE.append(self._turn)

    def stand(self) -> None:
        """Give the turn back here."""
        self._turn.give_back()
        if self.is_killed:
            raise Killed

    def stop_here(self) -> None:
        """A client is called, or has just been: perhaps it goes no further in this turn."""
        if self.is_killed:
            raise Killed
        self._calls -= 1
        if self._calls == 0:
            if self._kill_there:
                self.is_killed = True
                raise Killed
            self.stand()

    def round_over(self) -> None:
        """A loop is to begin anew."""
        self.rounds += 1
        self.stand()

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition, for so many seconds of virtual time."""
        self.waits, self.until = condition, self._world.cluster.now_s + seconds
        while not condition() and self._world.cluster.now_s + INSTANT_S < self.until:
            self.stand()
        self.waits = None
        return condition()


class World:
    """One history's cluster, group, clock and chance."""

    def __init__(self, cluster: Cluster, group: Group, seed: int) -> None:
        self.cluster = cluster
        self.group = group
        self.chance = random.Random(seed)
        self.running: Actor | None = None
        self.is_calm = False  # no more faults
        self.on_advance: Callable[[], None] = lambda: None
        self.told = list[str]()
        self.tells = False
        cluster.now_ms = START_MS

    def advance(self, seconds: float) -> None:
        """Time passes; whatever times out, does."""
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

    def likely(self, probability: float) -> bool:
        """Chance, which stops when faults do."""
        return not self.is_calm and self.chance.random() < probability

    def tell(self, what: str) -> None:
        """A line of the history, where somebody reads it."""
        if self.tells and not (self.is_calm and what in DULL):
            name = self.running.name if self.running else "world"
            self.told.append(f"{self.cluster.now_s:8.2f}  {name:10} {what}")


class TurnLock:
    """A lock between actors that are let run in turn; the one that has it may take it again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner: Actor | None = None
        self._times = 0

    def __enter__(self) -> Self:
        me = self._world.running
        if me is not None and self._owner is not me:
            me.wait(lambda: self._owner is None, FOREVER)
        self._owner = me
        self._times += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._times -= 1
        if not self._times:
            self._owner = None
