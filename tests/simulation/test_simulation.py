"""Thousands of histories of batch preparation with faults in them, and what must hold of each."""

import os
from collections.abc import Callable, Sequence

import pytest

from tests.simulation.history import SETTINGS, played
from tests.simulation.oracle import broken_promises, deadline_s, waiting_in_vain
from tests.simulation.steps import Step, drawn

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))
LENGTH = 60
BLOCKS = 8
SLACK_S = 20  # a worker knows the time from the last record it has read, and time leaps here


def broken(steps: Sequence[Step], told: list[str] | None = None) -> list[str]:
    """What a history of these steps breaks, once faults have stopped and deadlines have passed."""
    history = played(steps, tells=told is not None)
    try:
        history.settle(SETTINGS.session_timeout_s + 1)
        found = list(waiting_in_vain(history))
        history.settle(deadline_s(history) + SLACK_S)
        found += broken_promises(history)
    finally:
        history.end()
        if told is not None:
            told += history.world.told
    return found


def shortest(steps: list[Step], breaks: Callable[[list[Step]], bool]) -> list[Step]:
    """Fewer steps that still break something: ever smaller pieces are left out."""
    size = len(steps) // 2
    while size:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + size :]
            if breaks(fewer):
                steps = fewer
            else:
                start += size
        size //= 2
    return steps


def report(seed: int, steps: list[Step]) -> str:
    """The shortest history of a seed that broke something, call by call."""
    least = shortest(steps, lambda fewer: bool(broken(fewer)))
    told = list[str]()
    found = broken(least, told)
    return "\n".join([f"seed {seed}:", *map(str, least), "", *told, "", *found])


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_history_keeps_every_promise(block: int) -> None:
    for seed in range(FIRST + block, FIRST + SEEDS, BLOCKS):
        steps = drawn(seed, LENGTH)
        if broken(steps):
            pytest.fail(report(seed, steps), pytrace=False)
