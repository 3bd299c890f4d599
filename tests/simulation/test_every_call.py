"""One small history; in turn, at every call into a client, the worker dies, stands still, or gets an error."""

from collections.abc import Callable

import pytest

from tests.simulation.clients import Process
from tests.simulation.history import ERRORS, History
from tests.simulation.oracle import broken_promises, deadline_s, waiting_in_vain
from tests.simulation.steps import Step
from tests.simulation.test_simulation import SLACK_S

ONE, OTHER = 0, 1
MANY, FEW = 100, 10  # how often that history calls a client, and a producer, at least
TOGETHER = (  # parked, dead-lettered, a guest's, released by context and by deadline, prepared at once
    Step("work", ONE, 2),
    Step("work", ONE, 2),
    Step("request", 0, 0),
    Step("request", 1, 7),
    Step("request", 2, 6),
    Step("request", 2, 5),
    Step("work", ONE, 2),
    Step("upload", 0, 0),
    Step("upload", 0, 6),
    Step("request", 0, 14),
    Step("work", ONE, 2),
    Step("tick", 0, 4),
    Step("work", ONE, 2),
    Step("work", ONE, 2),
)
AFTERWARDS = (
    Step("start", OTHER),
    Step("tick", 0, 3),
    *(Step("work", OTHER, 2) for _ in range(4)),
    Step("thaw", ONE),
    Step("start", ONE),
    *(Step("work", who, 2) for who in (ONE, OTHER, ONE, OTHER)),
)


def played(befalls: Callable[[Process], None]) -> tuple[int, int, list[str]]:
    """What befalls the first worker: how often it could stop, how often failed, and what that breaks."""
    history = History()
    history.world.is_calm = True
    try:
        history.take(Step("start", ONE))
        process = history.process(ONE)
        assert process is not None
        befalls(process)
        for step in (*TOGETHER, *AFTERWARDS):
            history.take(step)
        process.dies_at = process.stands_at = 0
        stops, failed = process.stops, process.failed
        history.settle(1)
        found = list(waiting_in_vain(history))
        history.settle(deadline_s(history) + SLACK_S)
        return stops, failed, [*found, *broken_promises(history)]
    finally:
        history.end()


def dies(stop: int) -> Callable[[Process], None]:
    def befalls(process: Process) -> None:
        process.dies_at = stop

    return befalls


def stands_still(stop: int) -> Callable[[Process], None]:
    def befalls(process: Process) -> None:
        process.stands_at = stop

    return befalls


def fails(error: int, spared: int) -> Callable[[Process], None]:
    def befalls(process: Process) -> None:
        process.spared = spared
        process.errors.append(ERRORS[error])

    return befalls


@pytest.mark.parametrize("fault", [dies, stands_still])
def test_a_worker_may_die_or_stand_still_before_and_after_every_call(
    fault: Callable[[int], Callable[[Process], None]],
) -> None:
    broken, stop, was_met = dict[int, list[str]](), 0, True
    while was_met:
        stop += 1
        stops, _, broken[stop] = played(fault(stop))
        was_met = stops >= stop
    assert {at: found for at, found in broken.items() if found} == {}
    assert stop > MANY


@pytest.mark.parametrize("error", range(len(ERRORS)))
def test_every_call_of_the_producer_may_fail(error: int) -> None:
    broken, spared, was_met = dict[int, list[str]](), 0, True
    while was_met:
        _, failed, broken[spared] = played(fails(error, spared))
        was_met = failed > 0
        spared += 1
    assert {at: found for at, found in broken.items() if found} == {}
    assert spared > FEW
