"""Reports how far the first catch-up of a replica is: after a long pause it may take minutes."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from schemas.coordinates import Positions
from tables.replica import ContextReplica

log = logging.getLogger("cjstream.replica")
POLL_S = 1.0
REPORT_S = 10.0
# of some units of work and their number: a display that gets the units done while the block runs
Display = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def no_display(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda more: None)


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
