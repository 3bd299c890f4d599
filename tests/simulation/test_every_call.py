"""One small history, repeated: at each client call in turn, the worker dies, freezes or gets an error."""

from collections.abc import Callable

import pytest

from tests.simulation.clients import Process
from tests.simulation.history import ERRORS, History
from tests.simulation.oracle import broken_promises, deadline_s, parked_despite_context
from tests.simulation.steps import Step
from tests.simulation.test_simulation import SLACK_S

FIRST, SECOND = 0, 1
MIN_STOPS, MIN_PRODUCER_CALLS = 100, 10  # that this history must have
STEPS = (  # outcomes: parked, dead letter, guest, released by context and by deadline, prepared at once
    Step("work", FIRST, 2),
    Step("work", FIRST, 2),
    Step("request", 0, 0),
    Step("request", 1, 7),
    Step("request", 2, 6),
    Step("request", 2, 5),
    Step("work", FIRST, 2),
    Step("upload", 0, 0),
    Step("upload", 0, 6),
    Step("request", 0, 14),
    Step("work", FIRST, 2),
    Step("tick", 0, 4),
    Step("work", FIRST, 2),
    Step("work", FIRST, 2),
)
RECOVERY = (
    Step("start", SECOND),
    Step("tick", 0, 3),
    *(Step("work", SECOND, 2) for _ in range(4)),
    Step("thaw", FIRST),
    Step("start", FIRST),
    *(Step("work", worker, 2) for worker in (FIRST, SECOND, FIRST, SECOND)),
)


def run_with(inject: Callable[[Process], None]) -> tuple[int, int, list[str]]:
    """Inject a fault into the first worker; returns its possible stops, its failed calls and the broken promises."""
    history = History()
    history.world.is_calm = True
    try:
        history.run(Step("start", FIRST))
        process = history.process(FIRST)
        assert process is not None
        inject(process)
        for step in (*STEPS, *RECOVERY):
            history.run(step)
        process.dies_at = process.freezes_at = 0
        stops, failed = process.stops, process.failed_calls
        history.settle(1)
        problems = list(parked_despite_context(history))
        history.settle(deadline_s(history) + SLACK_S)
        return stops, failed, [*problems, *broken_promises(history)]
    finally:
        history.end()


def dies(stop: int) -> Callable[[Process], None]:
    def inject(process: Process) -> None:
        process.dies_at = stop

    return inject


def freezes(stop: int) -> Callable[[Process], None]:
    def inject(process: Process) -> None:
        process.freezes_at = stop

    return inject


def fails(error: int, calls_before: int) -> Callable[[Process], None]:
    def inject(process: Process) -> None:
        process.calls_before_errors = calls_before
        process.errors.append(ERRORS[error])

    return inject


@pytest.mark.parametrize("fault", [dies, freezes])
def test_a_worker_may_die_or_freeze_before_and_after_every_call(
    fault: Callable[[int], Callable[[Process], None]],
) -> None:
    problems, stop, was_reached = dict[int, list[str]](), 0, True
    while was_reached:
        stop += 1
        stops, _, problems[stop] = run_with(fault(stop))
        was_reached = stops >= stop
    assert {point: broken for point, broken in problems.items() if broken} == {}
    assert stop > MIN_STOPS


@pytest.mark.parametrize("error", range(len(ERRORS)))
def test_every_call_of_the_producer_may_fail(error: int) -> None:
    problems, calls_before, was_reached = dict[int, list[str]](), 0, True
    while was_reached:
        _, failed, problems[calls_before] = run_with(fails(error, calls_before))
        was_reached = failed > 0
        calls_before += 1
    assert {point: broken for point, broken in problems.items() if broken} == {}
    assert calls_before > MIN_PRODUCER_CALLS
