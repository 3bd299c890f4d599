"""The supervisor of one worker: it starts, restarts and thaws the process, and deletes a damaged replica."""

import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from processors.settings import Settings
from tests.faults.faulty_worker import COMMAND, replica_folder
from tests.faults.planned_faults import POINTS, Plan
from tests.faults.running import Process

CANNOT_OPEN = "cannot open the replica"
RESTART_S = 1.0  # pause between starts, for a worker that refuses to start
CORRUPT = "Corruption"
PER_ROW_PHRASES = ("rewritten", "not folded into the replica")
DISK_BYTES = (16 * 1024, 128 * 1024, 2 * 1024 * 1024)


@dataclass
class Post:
    """One worker and its supervisor; each process gets a fault plan drawn with the seed."""

    settings: Settings
    log: Path
    dice: random.Random
    counts: Counter[str]
    clock_offset_s: float = 0
    fault_probability: float = 0.5  # that a process kills or freezes itself
    process: Process = field(init=False)
    start_at: float = 0  # monotonic; no process is started before
    _thaw_at: float | None = None
    _full: bool = False
    _predecessor: Process | None = None

    def __post_init__(self) -> None:
        self.process = Process(self.settings, self.log, COMMAND)

    def supervise(self) -> None:
        """Start the next process if none runs, and thaw one that has been frozen for long enough."""
        now = time.monotonic()
        if self.process.is_frozen:
            self._supervise_frozen(now)
        elif not self.process.is_alive and now >= self.start_at:
            self._delete_damaged_replica()
            self.start()
            self.start_at = now + RESTART_S

    def _supervise_frozen(self, now: float) -> None:
        if self._thaw_at is None:
            session_s = self.settings.session_timeout_s
            self._thaw_at = now + session_s + self.dice.uniform(0.5, session_s)
            self.counts["freezes"] += 1
        elif now >= self._thaw_at:
            self.thaw()

    def stop_for(self, pause_s: float) -> None:
        """Send SIGTERM; the next process starts after the pause."""
        self.start_at = time.monotonic() + pause_s
        self.thaw()
        self.process.request_stop()

    def thaw(self) -> None:
        """Let a frozen process continue."""
        self._thaw_at = None
        self.process.thaw()

    def start(self) -> None:
        """Start the next process with a newly drawn plan."""
        if self.process.exit_code is not None:
            self.counts[f"ended with {self.process.exit_code}"] += 1
        self.process.environment = self._draw_plan().variables()
        self.process.start()

    def overlap(self) -> None:
        """Start the next process on another disk while this one runs, with the same slot, as a rolling update does."""
        _kill_even_frozen(self._predecessor)
        self._predecessor, self._thaw_at = self.process, None
        own, name = self.settings.data_dir, "other-disk"
        data_dir = own.parent if own.name == name else own / name
        self.settings = self.settings.model_copy(update={"data_dir": data_dir})
        self.process = Process(self.settings, self.log, COMMAND)
        self.start()

    def stop_predecessor(self) -> None:
        """Stop the process that the last overlap replaced, if it still runs."""
        if self._predecessor is not None:
            self._predecessor.thaw()
            self._predecessor.request_stop()

    def end(self) -> None:
        """Kill the process and its predecessor."""
        _kill_even_frozen(self.process)
        _kill_even_frozen(self._predecessor)

    def _draw_plan(self) -> Plan:
        if self._full:
            self._full = False
            return Plan(clock_offset_s=self.clock_offset_s, disk_bytes=self.dice.choice(DISK_BYTES))
        if self.dice.random() >= self.fault_probability:
            return Plan(clock_offset_s=self.clock_offset_s)
        point = self.dice.choice(POINTS)
        into_commit = self.dice.uniform(0.1, 8) if point == "committing" else 0
        kind = self.dice.choice(("any", "any", "parks", "releases"))
        return Plan(
            action=self.dice.choice(("kill", "kill", "stop")),
            point=point,
            kind=kind,
            nth=self.dice.randint(1, 60 if kind == "any" else 5),
            after_ms=into_commit,
            clock_offset_s=self.clock_offset_s,
        )

    def _delete_damaged_replica(self) -> None:
        """Delete the replica if the log says that it is damaged, as an operator would."""
        log_tail = self.process.log_tail(30)
        if CANNOT_OPEN in log_tail or CORRUPT in log_tail:
            shutil.rmtree(self.replica, ignore_errors=True)
            self.counts["damaged replicas deleted"] += 1

    @property
    def replica(self) -> Path:
        """The folder of the worker's replica."""
        return replica_folder(self.settings)

    def kill(self) -> None:
        """Send SIGKILL, whatever the process is doing."""
        if self.process.is_alive:
            self.process.kill()
            self.counts["kills"] += 1
        self._thaw_at = None

    def copy_replica(self) -> None:
        """Copy the replica of a dead worker, the first time only, as its backup."""
        if not self._backup.exists() and self.replica.exists():
            shutil.copytree(self.replica, self._backup)

    @property
    def _backup(self) -> Path:
        return self.replica.with_name("yesterday")

    def log_excerpt(self) -> str:
        """The end of the log, without the lines about single rows and uploads."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        excerpt = [line for line in lines if not any(phrase in line for phrase in PER_ROW_PHRASES)]
        return f"--- {self.log.name}\n" + "\n".join(excerpt[-40:])

    def delete_replica(self) -> None:
        """Delete a dead worker's replica."""
        shutil.rmtree(self.replica, ignore_errors=True)

    def truncate_replica(self) -> None:
        """Truncate a few files of a dead worker's replica."""
        files = sorted(path for path in self.replica.glob("*") if path.is_file())
        for path in self.dice.sample(files, min(3, len(files))):
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)

    def restore_replica(self) -> None:
        """Replace a dead worker's replica by the backup."""
        if self._backup.exists():
            shutil.rmtree(self.replica, ignore_errors=True)
            shutil.copytree(self._backup, self.replica)

    def fill_disk(self) -> None:
        """Give the replica of the next process a small disk, which is full once the replica is open."""
        self._full = True


def _kill_even_frozen(process: Process | None) -> None:
    if process is not None and process.is_alive:
        process.thaw()
        process.kill()
