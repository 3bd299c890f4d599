"""Watches a worker from outside, and ends it if one of its parts no longer makes progress.

A supervisor starts it again, and nothing is lost. An upload partition that is blocked by another producer's open
transaction is only reported: a restart would not help.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from processors.kafka.topic_admin import SeenTopic
from processors.kafka.transactional_producer import TransactionalProducer
from processors.kafka.transactions import OpenTransaction
from processors.monitoring.progress_probes import Probe
from processors.monitoring.stall_detector import Progress, StallDetector
from processors.monitoring.topic_watch import TopicWatch
from processors.shutdown import Shutdown, exit_after
from schemas.coordinates import Partition, Positions
from schemas.errors import CJStreamError, Unreachable

log = logging.getLogger("cjstream.watchdog")
TICK_S = 0.5
STUCK_S = 5.0  # added to the transaction timeout: after that a transaction is considered to hang
CHECK_S = 1.0
TOPICS_S = 5.0
BLOCKED_CHECKS = 5
# well over every intended wait: sessions, takeovers, another producer's transaction
STALLED_CHECKS = 90
GRACE_S = 15.0  # for a clean stop of the worker


class Stalled(CJStreamError):
    """A part of the worker makes no progress although there is something to read."""


def watch_transactions(
    producer: TransactionalProducer,
    shutdown: Shutdown,
    on_trip: Callable[[], None] = lambda: None,
) -> None:
    """End the process if a call into librdkafka hangs: nothing else can end it (librdkafka #5511).

    It counts rounds of its loop, not seconds: a process that was frozen had no rounds.
    """
    last_opened, ticks = None, 0
    while not shutdown.requested:
        opened = producer.opened_at
        ticks = ticks + 1 if opened is not None and opened == last_opened else 0
        last_opened = opened
        if ticks * TICK_S > producer.timeout_s + STUCK_S:
            log.error("transaction hangs: the process ends", extra={"open_s": ticks * TICK_S})
            on_trip()
            os._exit(CJStreamError.exit_code)
        time.sleep(TICK_S)


def watch_topics(
    seen_topics: Callable[[], Mapping[str, SeenTopic | None]], shutdown: Shutdown
) -> None:
    """Raises what `TopicWatch` does if a topic is deleted, created again or given partitions."""
    watch = TopicWatch()
    while not shutdown.requested:
        with suppress(Unreachable):  # it is seen again when a broker answers
            watch.observe(seen_topics())
        time.sleep(TOPICS_S)


class Watchdog:
    """Checks every part once a second; the queries to the broker are passed in."""

    def __init__(
        self,
        probes: Collection[Probe],
        high_watermarks: Callable[[], Positions],
        last_stable_offsets: Callable[[], Positions],
        uploads: Collection[Partition],
        replica_positions: Callable[[], Positions],
        stopped: Callable[[], Collection[Partition]],
        open_transactions: Callable[[Collection[Partition]], list[OpenTransaction]],
        stalled_checks: int = STALLED_CHECKS,
    ) -> None:
        self._probes = [(probe, StallDetector()) for probe in probes]
        self._high_watermarks = high_watermarks
        self._last_stable_offsets = last_stable_offsets
        self._uploads = frozenset(uploads)
        self._replica_positions = replica_positions
        self._stopped = stopped  # upload partitions that an upload of a later release has stopped
        self._open_on = open_transactions
        self._stalled_checks = stalled_checks
        self._blocked = StallDetector()
        self.reported: set[Partition] = set()  # partitions that an open transaction blocks
        # gets the last stable offsets and the high watermarks at each check, None if no broker answers
        self.on_offsets: Callable[[tuple[Positions, Positions] | None], None] = lambda _: None
        self.is_answered = False  # whether a broker answered the last check
        self.on_trip: Callable[[], None] = lambda: None

    def check(self) -> None:
        """Check every part once. Raises Stalled, naming the part and the partitions."""
        try:
            # before the high watermarks: a record that is appended in between is no open transaction
            stable = self._last_stable_offsets()
            high = self._high_watermarks()
        except Unreachable:  # nothing can advance; it is not reported here
            self.is_answered = False
            self.on_offsets(None)
            self._blocked.observe({})
            for _, detector in self._probes:
                detector.observe({})
            return
        self.is_answered = True
        self.on_offsets((stable, high))
        self._report_blocked(stable, high)
        replica, stopped = self._replica_positions(), self._stopped()
        caught_up = all(
            replica.get(partition, 0) >= high[partition]
            for partition in self._uploads.difference(stopped)
        )
        for probe, detector in self._probes:
            try:
                progress = {
                    partition: observed
                    for partition, observed in probe.progress(stable, caught_up).items()
                    if partition not in stopped  # a restart would not help
                }
            except Unreachable:  # a coordinator may be away although the leaders answer
                progress = {}
            counts = detector.observe(progress)
            stalled = [
                partition
                for partition, count in counts.items()
                if count % (probe.checks or self._stalled_checks) == 0
                and probe.is_stalled(partition, progress[partition])
            ]
            if stalled:
                raise Stalled(
                    f"{probe.name} makes no progress at "
                    + ", ".join(f"{tp}@{progress[tp].position}" for tp in stalled)
                    + f" for {counts[stalled[0]] * CHECK_S:g} s, although the log continues to "
                    + ", ".join(str(progress[partition].end) for partition in stalled)
                )

    def _report_blocked(self, stable: Positions, high: Positions) -> None:
        """Log each partition that an open transaction blocks, once, and when it is no longer blocked."""
        counts = self._blocked.observe(
            {partition: Progress(stable[partition], end) for partition, end in high.items()}
        )
        blocked = {partition for partition, count in counts.items() if count >= BLOCKED_CHECKS}
        new = sorted(blocked - self.reported)
        opened = self._open_on(new) if new else []
        for partition in new:
            log.warning(
                "partition blocked by an open transaction",
                extra={
                    "transactions": [str(one) for one in opened if one.partition == partition],
                    "at": f"{partition}@{stable[partition]}",
                    "open_s": counts[partition] * CHECK_S,
                },
            )
        for partition in sorted(self.reported - counts.keys()):
            log.info(
                "partition no longer blocked",
                extra={"at": str(partition)},
            )
        self.reported = (self.reported | blocked) & counts.keys()

    def run(self, shutdown: Shutdown) -> None:
        """Check until the worker ends. Raises Stalled if a part has."""
        while not shutdown.requested:
            try:
                self.check()
            except Stalled as fault:
                log.error("worker is stalled: it ends", extra={"reason": str(fault)})
                self.on_trip()
                raise
            time.sleep(CHECK_S)


def in_background(
    name: str, watch: Callable[[], None], shutdown: Shutdown, grace_s: float = GRACE_S
) -> None:
    """Start a daemon thread for a watch; it does not delay the process's end.

    A watch that raises, or returns although nothing is to stop, ends the process: it must not go on unwatched. A clean
    stop needs the event loop; if that hangs, too, the process is ended after `grace_s`.
    """

    def run() -> None:
        try:
            watch()
            fault = CJStreamError(f"{name} ended: restart the process")
        except CJStreamError as named:
            fault = named
        except BaseException as unexpected:  # noqa: BLE001 (whatever ends the watch)
            kind = type(unexpected).__name__
            fault = CJStreamError(f"{name} ended with {kind}: restart the process")
        if not shutdown.requested:
            log.error("watch ended", extra={"watch": name, "reason": str(fault)})
            exit_after(grace_s, shutdown, log)
            shutdown.fail(fault)

    threading.Thread(target=run, name=name, daemon=True).start()
