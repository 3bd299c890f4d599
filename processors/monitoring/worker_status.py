"""What a worker tells of itself in a small file, for `doctor` on the same machine."""

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import orjson

from processors.settings import Settings
from schemas.coordinates import Partition

log = logging.getLogger("cjstream.worker")
NAME = "status.json"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker's last rebalance: its process id then, when, and which request partitions it has since."""

    pid: int
    rebalanced_at_ms: int
    rebalances: int
    partitions: tuple[int, ...]


class StatusFile:
    """Writes the file at each rebalance, aside and renamed: a reader never sees half of it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._rebalances = 0
        self.owned: frozenset[Partition] = frozenset()

    def rebalanced(self, owned: Collection[Partition], now_ms: int) -> None:
        """Partitions were assigned or revoked: these are owned now."""
        self.owned = frozenset(owned)
        self._rebalances += 1
        status = WorkerStatus(
            os.getpid(), now_ms, self._rebalances, tuple(sorted(at.partition for at in owned))
        )
        aside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(orjson.dumps(status))
            aside.replace(self._path)
        except OSError as fault:  # a full disk is no reason to stop
            log.warning("status file not written", extra={"reason": fault.strerror})


def statuses(settings: Settings) -> dict[str, WorkerStatus]:
    """What the workers of this installation on this machine told last, by the names of their folders."""
    found = {}
    for path in sorted(settings.data_dir.glob(f"{settings.topic_prefix}worker-*/{NAME}")):
        try:
            told = orjson.loads(path.read_bytes())
            told["partitions"] = tuple(told["partitions"])
            found[path.parent.name] = WorkerStatus(**told)
        except (OSError, ValueError, TypeError, KeyError):
            continue  # of another release, or just gone
    return found
