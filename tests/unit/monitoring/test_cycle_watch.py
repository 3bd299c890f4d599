"""A judge is stalled if no new cycle begins."""

import pytest

from processors.monitoring.cycle_watch import CycleWatch
from processors.monitoring.watchdog import Stalled

CHECKS = 4


def test_a_judge_whose_cycles_begin_is_not_stalled() -> None:
    begun = iter(range(100))
    watch = CycleWatch(lambda: next(begun), CHECKS)
    for _ in range(3 * CHECKS):
        watch.check()


def test_a_cycle_that_does_not_end_is_named() -> None:
    watch = CycleWatch(lambda: 7, CHECKS)
    for _ in range(CHECKS):
        watch.check()
    with pytest.raises(Stalled, match="cycle 7 has not ended for 4 s"):
        watch.check()


def test_a_slow_cycle_is_no_stall_and_the_next_one_restarts_the_count() -> None:
    begun = [1] * CHECKS + [2] * CHECKS + [3] * CHECKS
    watch = CycleWatch(iter(begun).__next__, CHECKS)
    for _ in begun:
        watch.check()
