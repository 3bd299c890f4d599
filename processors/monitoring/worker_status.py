"""A small file with a worker's last rebalance, for `doctor` on the same machine, and a lock while the worker runs."""

import fcntl
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from processors.settings import Settings
from schemas.coordinates import Partition

log = logging.getLogger("cjstream.worker")
NAME, LOCK_NAME, TRIPS_NAME = "status.json", "running.lock", "watchdog_trips"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker's last rebalance: its process id, the time, its rebalances so far, and its request partitions.

    Before the first rebalance, the time is that of its start.
    """

    pid: int
    rebalanced_at_ms: int
    rebalances: int
    partitions: tuple[int, ...]
    is_running: bool = field(default=False, compare=False)


class StatusFile:
    """Writes the file at the start and at each rebalance, atomically: a reader never sees half of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rebalances = 0
        self.owned: frozenset[Partition] = frozenset()

    def started(self, now_ms: int) -> None:
        """Note that the worker runs, until the process ends; it owns nothing yet."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / LOCK_NAME, os.O_CREAT | os.O_WRONLY)  # never closed
            fcntl.flock(lock, fcntl.LOCK_SH)
        except OSError as fault:
            log.warning("lock file not written", extra={"reason": fault.strerror})
        self._write(now_ms)

    def rebalanced(self, owned: Collection[Partition], now_ms: int) -> None:
        """Note that partitions were assigned or revoked: these are owned now."""
        self.owned = frozenset(owned)
        self.rebalances += 1
        self._write(now_ms)

    @property
    def watchdog_trips(self) -> int:
        """How often a watchdog has ended the worker of this folder; a process cannot count its own end."""
        try:
            return int((self._folder / TRIPS_NAME).read_text())
        except (OSError, ValueError):
            return 0

    def watchdog_tripped(self) -> None:
        """Note that the watchdog is about to end the process."""
        try:
            (self._folder / TRIPS_NAME).write_text(str(self.watchdog_trips + 1))
        except OSError as fault:
            log.warning("watchdog trip not counted", extra={"reason": fault.strerror})

    def _write(self, now_ms: int) -> None:
        status = {
            "pid": os.getpid(),
            "rebalanced_at_ms": now_ms,
            "rebalances": self.rebalances,
            "partitions": sorted(partition.partition for partition in self.owned),
        }
        path = self._folder / NAME
        temporary = path.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(orjson.dumps(status))
            temporary.replace(path)
        except OSError as fault:  # a full disk is no reason to stop
            log.warning("status file not written", extra={"reason": fault.strerror})


def statuses(settings: Settings) -> dict[str, WorkerStatus]:
    """The last status of each worker of this installation on this machine, by folder name."""
    found = {}
    for path in sorted(settings.data_dir.glob(f"{settings.topic_prefix}worker-*/{NAME}")):
        try:
            fields = orjson.loads(path.read_bytes())
            fields["partitions"] = tuple(fields["partitions"])
            found[path.parent.name] = WorkerStatus(**fields, is_running=_is_running(path.parent))
        except (OSError, ValueError, TypeError, KeyError):
            continue  # of another release, or removed a moment ago
    return found


def _is_running(folder: Path) -> bool:
    """Whether the worker of this folder runs: the lock ends with its process, however that ends."""
    try:
        with (folder / LOCK_NAME).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
