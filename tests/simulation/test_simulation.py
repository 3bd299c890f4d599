"""Thousands of histories of batch preparation with faults; every history must keep every promise."""

import os
from collections.abc import Callable, Sequence

import pytest

from tests.simulation.history import SETTINGS, history_after
from tests.simulation.oracle import broken_promises, deadline_s, parked_despite_context
from tests.simulation.steps import Step, random_steps

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))
FIRST_SEED = int(os.environ.get("SIMULATION_FIRST", "0"))
LENGTH = 60
BLOCKS = 8
SLACK_S = (
    20  # a worker knows the broker's time only from the last record read, and time passes in steps
)


def problems_of(steps: Sequence[Step], lines: list[str] | None = None) -> list[str]:
    """The broken promises of these steps, after faults have stopped and deadlines have passed."""
    history = history_after(steps, records_lines=lines is not None)
    try:
        history.settle(SETTINGS.session_timeout_s + 1)
        problems = list(parked_despite_context(history))
        history.settle(deadline_s(history) + SLACK_S)
        problems += broken_promises(history)
    finally:
        history.end()
        if lines is not None:
            lines += history.world.lines
    return problems


def shortest(steps: list[Step], fails: Callable[[list[Step]], bool]) -> list[Step]:
    """A shorter list of steps that still fails, found by removing ever smaller pieces."""
    size = len(steps) // 2
    while size:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + size :]
            if fails(fewer):
                steps = fewer
            else:
                start += size
        size //= 2
    return steps


def report(seed: int, steps: list[Step]) -> str:
    """The shortest failing history of a seed, call by call."""
    fewest = shortest(steps, lambda fewer: bool(problems_of(fewer)))
    lines = list[str]()
    problems = problems_of(fewest, lines)
    return "\n".join([f"seed {seed}:", *map(str, fewest), "", *lines, "", *problems])


@pytest.mark.parametrize(
    "block", [0, *(pytest.param(block, marks=pytest.mark.thorough) for block in range(1, BLOCKS))]
)
def test_every_history_keeps_every_promise(block: int) -> None:
    for seed in range(FIRST_SEED + block, FIRST_SEED + SEEDS, BLOCKS):
        steps = random_steps(seed, LENGTH)
        if problems_of(steps):
            pytest.fail(report(seed, steps), pytrace=False)
