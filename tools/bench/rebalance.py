"""`cjstream bench rebalance`: what requests see of a worker that joins and leaves."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from processors.settings import Settings
from tools.bench.events import now_ms
from tools.bench.installation import (
    Machine,
    installation,
    process_of,
    this_machine,
    wait_until_shared,
)
from tools.bench.outcomes import AnsweredRequest, outcomes_of, warm_up
from tools.bench.percentiles import Spread, spread_of
from tools.bench.traffic import Sender, Steady, steady_requests
from tools.processes import Say, running

SETTLED_S = 1.0  # after the partitions have moved, still counted as part of the move


@dataclass(frozen=True, slots=True)
class Moves:
    """Joins, or leaves: the latency of every request under way during one, and the longest in each."""

    count: int
    latency_ms: Spread
    pause_ms: Spread


@dataclass(frozen=True, slots=True)
class Rebalance:
    """Latency is from a request's append until a reader of committed outcomes has its outcome."""

    machine: Machine
    protocol: str
    rate_per_s: float
    requests: int
    outcomes: int
    quiet_ms: Spread
    joins: Moves
    leaves: Moves


@dataclass(frozen=True, slots=True)
class Window:
    """While partitions moved; ms."""

    begun_ms: int
    ended_ms: int


def run(tell: Say, *, protocol: str, times: int, rate: float, quiet_s: float) -> Rebalance:
    """Let a second worker join and leave so many times while requests flow at a steady rate."""
    machine = this_machine()
    joins, leaves = list[Window](), list[Window]()
    with ExitStack() as stack:
        settings = stack.enter_context(installation(tell, group_protocol=protocol))
        one = process_of(settings, "one", slot="one")
        two = process_of(settings, "two")  # without a slot it leaves its group when it ends
        stack.enter_context(running("worker", one, tell))
        outcomes = stack.enter_context(outcomes_of(settings))
        warm_up(Sender(settings), outcomes)
        with steady_requests(settings, rate) as steady:
            steady.go_on(quiet_s)
            for number in range(times):
                tell(f"join and leave {number + 1} of {times}")
                begun_ms = now_ms()
                with running("worker", two, tell):
                    joins.append(_moved(settings, steady, begun_ms, workers=2))
                    steady.go_on(quiet_s)
                    begun_ms = now_ms()
                leaves.append(_moved(settings, steady, begun_ms, workers=1))
                steady.go_on(quiet_s)
        outcomes.wait_for(steady.appended)
        answers = list(outcomes.answers(steady.appended).values())
    return Rebalance(
        machine,
        protocol,
        rate,
        len(steady.appended),
        len(answers),
        spread_of(one.latency_ms for one in _outside(answers, [*joins, *leaves])),
        _moves(answers, joins),
        _moves(answers, leaves),
    )


def _moved(settings: Settings, steady: Steady, begun_ms: int, *, workers: int) -> Window:
    """The time until so many workers have the partitions among them, and a moment after."""
    wait_until_shared(settings, workers)
    steady.go_on(SETTLED_S)
    return Window(begun_ms, now_ms())


def _outside(answers: Iterable[AnsweredRequest], windows: list[Window]) -> list[AnsweredRequest]:
    return [one for one in answers if not any(_within(one, window) for window in windows)]


def _within(answer: AnsweredRequest, window: Window) -> bool:
    return answer.is_within(window.begun_ms, window.ended_ms)


def _moves(answers: list[AnsweredRequest], windows: list[Window]) -> Moves:
    within = [[one.latency_ms for one in answers if _within(one, window)] for window in windows]
    return Moves(
        len(windows),
        spread_of(latency for latencies in within for latency in latencies),
        spread_of(max(latencies) for latencies in within if latencies),
    )
