"""Waits until a replica has passed the end of the log; the first catch-up is reported, for it may take minutes."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from schemas.coordinates import Partition, Positions
from schemas.errors import ReplicaBehind
from tables.replica import ContextReplica, StoppedAt

log = logging.getLogger("cjstream.replica")
POLL_S = 1.0
REPORT_S = 10.0
# of some units of work and their number: a display that gets the units done while the block runs
Display = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def no_display(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda more: None)


class ReplicaProgress(Protocol):
    """What waiting needs of a replica."""

    def wait_past(self, watermarks: Positions, seconds: float) -> Positions:
        """Wait until every watermark is reached; returns the ones not reached within that many seconds."""

    def stopped(self) -> Mapping[Partition, StoppedAt]:
        """The partitions that an upload of a later release has stopped."""


def require_reached(replica: ReplicaProgress, ends: Positions, until: float) -> None:
    """Wait until the replica passes these ends. Raises ReplicaBehind if it does not until then, or has stopped.

    `until` is a `time.monotonic()` deadline.
    """
    behind = replica.wait_past(ends, max(0.0, until - time.monotonic()))
    if not behind:
        return
    stopped = replica.stopped()
    reasons = [stopped[partition].reason for partition in behind if partition in stopped]
    why = f": {reasons[0]}" if reasons else ""
    raise ReplicaBehind(f"the replica is behind at {len(behind)} upload partitions{why}")


def wait_until_caught_up(
    replica: ContextReplica,
    ends: Positions,
    is_stopping: Callable[[], bool],
    display: Display = no_display,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Return when a replica, which a feed advances, has passed these ends, but for its stopped partitions.

    It logs the progress every REPORT_S seconds.
    """
    started_at = reported_at = clock.monotonic()
    start = done = _position(replica, ends)
    total = sum(ends.values())
    log.info("waiting for the replica to fold the uploads", extra={"from": start, "to": total})
    with display("uploads", total - start) as show:
        while not is_stopping():
            behind = replica.wait_past(ends, POLL_S)
            before, done = done, _position(replica, ends)
            show(done - before)
            if behind.keys() <= replica.stopped().keys():
                took_ms = round((clock.monotonic() - started_at) * 1000)
                log.info("replica caught up", extra={"took_ms": took_ms})
                return
            if (now := clock.monotonic()) - reported_at >= REPORT_S:
                reported_at, per_second = now, round((done - start) / (now - started_at))
                progress = {"at": done, "to": total, "per_second": per_second}
                log.info("the replica folds the uploads", extra=progress)


def _position(replica: ContextReplica, ends: Positions) -> int:
    positions = replica.positions()
    return sum(min(positions.get(partition, 0), end) for partition, end in ends.items())
