"""A post that one worker after the other holds: its supervisor, which starts, thaws and, if need be, repairs."""

import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from processors.settings import Settings
from tests.faults.faulty_worker import COMMAND, POINTS, Plan, replica_folder
from tests.faults.running import Process

CANNOT_OPEN = "cannot open the replica"
RESTART_S = 1.0  # a supervisor's pause: one that refuses to start is not started without end
CORRUPT = "Corruption"
OF_SINGLE_ONES = ("rewritten", "not folded into the replica")
DISK_BYTES = (16 * 1024, 128 * 1024, 2 * 1024 * 1024)


@dataclass
class Post:
    """One worker's post: its lives, each with a plan drawn by the seed."""

    settings: Settings
    log: Path
    dice: random.Random
    counts: Counter[str]
    clock_off_s: float = 0
    planned: float = 0.5  # of the lives, how many fall or stand still by themselves
    process: Process = field(init=False)
    away_until: float = 0  # monotonic; nobody holds the post before that
    _thaw_at: float | None = None
    _full: bool = False

    def __post_init__(self) -> None:
        self.process = Process(self.settings, self.log, COMMAND)

    def tend(self) -> None:
        """Start the next life where there is none, and thaw what has been frozen for long enough."""
        now = time.monotonic()
        if self.process.is_frozen:
            self._tend_frozen(now)
        elif not self.process.is_alive and now >= self.away_until:
            self._repair()
            self.start()
            self.away_until = now + RESTART_S

    def _tend_frozen(self, now: float) -> None:
        if self._thaw_at is None:
            session_s = self.settings.session_timeout_s
            self._thaw_at = now + session_s + self.dice.uniform(0.5, session_s)
            self.counts["freezes"] += 1
        elif now >= self._thaw_at:
            self.thaw()

    def leave(self, away_s: float) -> None:
        """SIGTERM; the next life begins after so long."""
        self.away_until = time.monotonic() + away_s
        self.thaw()
        self.process.stop_soon()

    def thaw(self) -> None:
        """Let it go on."""
        self._thaw_at = None
        self.process.thaw()

    def start(self) -> None:
        """Start the next life by a plan of its own."""
        if self.process.exit_code is not None:
            self.counts[f"ended with {self.process.exit_code}"] += 1
        self.process.environment = self._drawn().told()
        self.process.start()

    def _drawn(self) -> Plan:
        if self._full:
            self._full = False
            return Plan(clock_off_s=self.clock_off_s, disk_bytes=self.dice.choice(DISK_BYTES))
        if self.dice.random() >= self.planned:
            return Plan(clock_off_s=self.clock_off_s)
        point = self.dice.choice(POINTS)
        into_commit = self.dice.uniform(0.1, 8) if point == "committing" else 0
        kind = self.dice.choice(("any", "any", "parks", "releases"))
        return Plan(
            does=self.dice.choice(("kill", "kill", "stop")),
            point=point,
            kind=kind,
            nth=self.dice.randint(1, 60 if kind == "any" else 5),
            after_ms=into_commit,
            clock_off_s=self.clock_off_s,
        )

    def _repair(self) -> None:
        """What an operator does on the worker's word: a damaged replica is deleted."""
        words = self.process.last_words(30)
        if CANNOT_OPEN in words or CORRUPT in words:
            shutil.rmtree(self.replica, ignore_errors=True)
            self.counts["replicas given up"] += 1

    @property
    def replica(self) -> Path:
        """The worker's replica on disk."""
        return replica_folder(self.settings)

    def kill(self) -> None:
        """SIGKILL, wherever it stands."""
        if self.process.is_alive:
            self.process.kill()
            self.counts["kills"] += 1
        self._thaw_at = None

    def keep_a_copy(self) -> None:
        """Of the replica of a dead worker, once: yesterday's."""
        if not self._yesterday.exists() and self.replica.exists():
            shutil.copytree(self.replica, self._yesterday)

    @property
    def _yesterday(self) -> Path:
        return self.replica.with_name("yesterday")

    def words(self) -> str:
        """The end of its log, without what is said of single rows and uploads."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        told = [line for line in lines if not any(phrase in line for phrase in OF_SINGLE_ONES)]
        return f"--- {self.log.name}\n" + "\n".join(told[-40:])

    def lose_replica(self) -> None:
        """Delete a dead worker's replica."""
        shutil.rmtree(self.replica, ignore_errors=True)

    def cut_replica(self) -> None:
        """Cut a few of a dead worker's replica's files short."""
        files = sorted(path for path in self.replica.glob("*") if path.is_file())
        for path in self.dice.sample(files, min(3, len(files))):
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)

    def put_yesterday_back(self) -> None:
        """Replace a dead worker's replica by the copy."""
        if self._yesterday.exists():
            shutil.rmtree(self.replica, ignore_errors=True)
            shutil.copytree(self._yesterday, self.replica)

    def fill_disk(self) -> None:
        """The next life's replica has a small disk, which is full once it is open."""
        self._full = True
