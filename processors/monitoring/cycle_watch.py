"""Watches a judge's cycles from outside, and ends the process if no new one begins: its thread or its event loop hangs.

A supervisor starts it again, and nothing is lost. A call into librdkafka that hangs is seen earlier, by
`watch_transactions`.
"""

import faulthandler
import logging
import time
from collections.abc import Callable

from processors.monitoring.watchdog import CHECK_S, STALLED_CHECKS, Stalled
from processors.shutdown import Shutdown

log = logging.getLogger("cjstream.watchdog")


class CycleWatch:
    """Counts checks, not time: a process that was frozen had no time for a cycle. begun: how many cycles have begun."""

    def __init__(self, begun: Callable[[], int], stalled_checks: int = STALLED_CHECKS) -> None:
        self._begun = begun
        self._stalled_checks = stalled_checks
        self._last = -1
        self._checks = 0

    def check(self) -> None:
        """Check once. Raises Stalled."""
        begun = self._begun()
        self._checks = self._checks + 1 if begun == self._last else 0
        self._last = begun
        if self._checks >= self._stalled_checks:
            raise Stalled(
                f"the judge's cycle {begun} has not ended for {self._checks * CHECK_S:g} s"
            )

    def run(self, shutdown: Shutdown) -> None:
        """Check until the process ends. Raises Stalled, after it has written the stack of each thread to stderr."""
        while not shutdown.requested:
            try:
                self.check()
            except Stalled as fault:
                log.error("judge is stalled: it ends", extra={"reason": str(fault)})
                faulthandler.dump_traceback(all_threads=True)
                raise
            time.sleep(CHECK_S)
