"""Looks from outside at what a worker does, and ends it where a part of it no longer does anything.

A supervisor starts it again, and nothing is lost by that. An upload partition that another producer's open
transaction holds is only named: no restart would help.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from processors.exactly_once.batch_producer import BatchProducer
from processors.monitoring.stall_detector import Progress, StallDetector
from schemas.coordinates import Partition, Positions
from schemas.errors import CJStreamError, Unreachable

log = logging.getLogger("cjstream.watchdog")
TICK_S = 0.5
STUCK_S = 5.0  # over the transaction timeout, before a transaction is taken to hang
CHECK_S = 1.0
HELD_CHECKS = 5
STALLED_CHECKS = (
    90  # well over every wait that is meant: sessions, takeovers, another's transaction
)
GRACE_S = 15.0  # for the worker to end in good order


class ShutdownRequest(Protocol):
    """What the watchdog asks of the worker's end."""

    @property
    def requested(self) -> bool:
        """Whether the worker is to end."""

    def fail(self, fault: BaseException) -> None:
        """End with a fault; from any thread."""


class Stalled(CJStreamError):
    """A part of the worker stands still though there is something to do."""


def watch_transactions(outbox: BatchProducer, end: ShutdownRequest) -> None:
    """End the process where a call into librdkafka hangs: nothing else can (librdkafka #5511).

    It counts its own ticks: a process that was frozen has had no time to go on.
    """
    seen, ticks = None, 0
    while not end.requested:
        opened = outbox.opened_at
        ticks = ticks + 1 if opened is not None and opened == seen else 0
        seen = opened
        if ticks * TICK_S > outbox.timeout_s + STUCK_S:
            log.error("transaction hangs: the process ends", extra={"open_s": ticks * TICK_S})
            os._exit(CJStreamError.exit_code)
        time.sleep(TICK_S)


class Probe(Protocol):
    """A part of the worker that is to advance."""

    @property
    def name(self) -> str:
        """What it is called in the one line that says it stalled."""

    def progress(self, stable: Positions, *, uploads_pass: bool) -> Mapping[Partition, Progress]:
        """Its positions and the ends that it should reach, given the last stable offsets.

        uploads_pass is whether the replica stands at the end of the uploads.
        """

    def is_stalled(self, at: Partition, seen: Progress) -> bool:
        """Whether there is really a record that it does not read: markers are none."""


class Watchdog:
    """One look a second at every part; the questions to the broker are lent."""

    def __init__(
        self,
        parts: Collection[Probe],
        high: Callable[[], Positions],
        stable: Callable[[], Positions],
        uploads: Collection[Partition],
        replica: Callable[[], Positions],
        stalled_looks: int = STALLED_CHECKS,
    ) -> None:
        self._probes = [(part, StallDetector()) for part in parts]
        self._high = high
        self._stable = stable
        self._uploads = frozenset(uploads)
        self._replica = replica
        self._stalled_looks = stalled_looks
        self._open = StallDetector()
        self._named: set[Partition] = set()

    def check(self) -> None:
        """Look once. Raises Stalled, naming the part and the partitions."""
        try:
            stable = (
                self._stable()
            )  # before the high watermarks: what comes between is no open transaction
            high = self._high()
        except Unreachable:  # nothing can advance, and nothing is told of it here
            self._open.observe({})
            for _, standstill in self._probes:
                standstill.observe({})
            return
        self._name_held(stable, high)
        replica = self._replica()
        uploads_pass = all(replica.get(at, 0) >= high[at] for at in self._uploads)
        for part, standstill in self._probes:
            seen = part.progress(stable, uploads_pass=uploads_pass)
            looks = standstill.observe(seen)
            stalled = [
                at
                for at, count in looks.items()
                if count % self._stalled_looks == 0 and part.is_stalled(at, seen[at])
            ]
            if stalled:
                raise Stalled(
                    f"{part.name} stands still at "
                    + ", ".join(f"{at.topic}/{at.partition}@{seen[at].position}" for at in stalled)
                    + f" for {looks[stalled[0]] * CHECK_S:g} s, and the log goes on to "
                    + ", ".join(str(seen[at].end) for at in stalled)
                )

    def _name_held(self, stable: Positions, high: Positions) -> None:
        """Name each partition that an open transaction holds, once, and when it no longer does."""
        looks = self._open.observe({at: Progress(stable[at], end) for at, end in high.items()})
        held = {at for at, count in looks.items() if count >= HELD_CHECKS}
        for at in sorted(held - self._named):
            told = {"at": f"{at.topic}/{at.partition}@{stable[at]}", "open_s": looks[at] * CHECK_S}
            log.warning("partition held by an open transaction", extra=told)
        for at in sorted(self._named - looks.keys()):
            log.info("partition no longer held", extra={"at": f"{at.topic}/{at.partition}"})
        self._named = (self._named | held) & looks.keys()

    def run(self, end: ShutdownRequest) -> None:
        """Look until the worker ends; where a part has stalled, end the process, in good order if it can."""
        while not end.requested:
            try:
                self.check()
            except Stalled as fault:
                log.error("worker stalls: it ends", extra={"reason": str(fault)})
                end.fail(fault)
                time.sleep(GRACE_S)
                os._exit(fault.exit_code)
            except Exception as fault:  # noqa: BLE001 (nobody would watch any more)
                end.fail(fault)
                return
            time.sleep(CHECK_S)


def in_background(name: str, watch: Callable[[], None]) -> None:
    """Start a thread that watches and does not hold up the process's end."""
    threading.Thread(target=watch, name=name, daemon=True).start()
