"""A small file with a worker's last rebalance, for `doctor` on the same machine."""

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
    """A worker's last rebalance: its process id, the time, its rebalances so far, and its request partitions."""

    pid: int
    rebalanced_at_ms: int
    rebalances: int
    partitions: tuple[int, ...]


class StatusFile:
    """Writes the file at each rebalance, atomically, so that a reader never sees half of it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._rebalances = 0
        self.owned: frozenset[Partition] = frozenset()

    def rebalanced(self, owned: Collection[Partition], now_ms: int) -> None:
        """Note that partitions were assigned or revoked: these are owned now."""
        self.owned = frozenset(owned)
        self._rebalances += 1
        status = WorkerStatus(
            os.getpid(),
            now_ms,
            self._rebalances,
            tuple(sorted(partition.partition for partition in owned)),
        )
        temporary = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(orjson.dumps(status))
            temporary.replace(self._path)
        except OSError as fault:  # a full disk is no reason to stop
            log.warning("status file not written", extra={"reason": fault.strerror})


def statuses(settings: Settings) -> dict[str, WorkerStatus]:
    """The last status of each worker of this installation on this machine, by folder name."""
    found = {}
    for path in sorted(settings.data_dir.glob(f"{settings.topic_prefix}worker-*/{NAME}")):
        try:
            fields = orjson.loads(path.read_bytes())
            fields["partitions"] = tuple(fields["partitions"])
            found[path.parent.name] = WorkerStatus(**fields)
        except (OSError, ValueError, TypeError, KeyError):
            continue  # of another release, or removed a moment ago
    return found
