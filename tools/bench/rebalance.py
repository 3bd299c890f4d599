"""`cjstream bench rebalance`: latency of requests while a second worker joins and leaves."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain

from processors.settings import Settings
from tools.bench.events import now_ms
from tools.bench.outcomes import AnsweredRequest, reading_outcomes, warm_up
from tools.bench.percentiles import Figures, spread_of
from tools.bench.processes import (
    process_settings,
    wait_until_assigned,
)
from tools.bench.traffic import Sender, Steady, steady_requests
from tools.installation import installation
from tools.processes import Say, running

SETTLED_S = 1.0  # after the partitions have moved; counted as part of the move


@dataclass(frozen=True, slots=True)
class Window:
    """The time of one move, in ms."""

    start_ms: int
    end_ms: int


def run(say: Say, *, protocol: str, times: int, rate: float, quiet_s: float) -> Figures:
    """Let a second worker join and leave `times` times while requests are sent at `rate` per second."""
    joins, leaves = list[Window](), list[Window]()
    with ExitStack() as stack:
        settings = stack.enter_context(installation(say, group_protocol=protocol))
        first = process_settings(settings, "one", slot="one")
        second = process_settings(settings, "two")  # no slot: it leaves its group when it ends
        stack.enter_context(running("worker", first, say))
        outcomes = stack.enter_context(reading_outcomes(settings))
        warm_up(Sender(settings), outcomes)
        with steady_requests(settings, rate) as steady:
            steady.wait_for_requests(quiet_s)
            for number in range(times):
                say(f"join and leave {number + 1} of {times}")
                start_ms = now_ms()
                with running("worker", second, say):
                    joins.append(_finish_move(settings, steady, start_ms, workers=2))
                    steady.wait_for_requests(quiet_s)
                    start_ms = now_ms()
                leaves.append(_finish_move(settings, steady, start_ms, workers=1))
                steady.wait_for_requests(quiet_s)
        outcomes.wait_for(steady.appended)
        answered = list(outcomes.answered(steady.appended).values())
    quiet = _outside(answered, [*joins, *leaves])
    # a latency is from the append of a request until a reader of committed records has its outcome
    return {
        "protocol": protocol,
        "rate_per_s": rate,
        "requests": len(steady.appended),
        "outcomes": len(answered),
        "quiet_ms": spread_of(request.latency_ms for request in quiet),
        "joins": _moves(answered, joins),
        "leaves": _moves(answered, leaves),
    }


def _finish_move(settings: Settings, steady: Steady, start_ms: int, *, workers: int) -> Window:
    """The window from start_ms until SETTLED_S after that many workers share the partitions."""
    wait_until_assigned(settings, workers)
    steady.wait_for_requests(SETTLED_S)
    return Window(start_ms, now_ms())


def _outside(answered: Iterable[AnsweredRequest], windows: list[Window]) -> list[AnsweredRequest]:
    return [
        request
        for request in answered
        if not any(_is_within(request, window) for window in windows)
    ]


def _is_within(request: AnsweredRequest, window: Window) -> bool:
    return request.is_within(window.start_ms, window.end_ms)


def _moves(answered: list[AnsweredRequest], windows: list[Window]) -> Figures:
    """The latencies of all requests that waited during a move, and the longest latency in each move."""
    latencies_by_window = [
        [request.latency_ms for request in answered if _is_within(request, window)]
        for window in windows
    ]
    return {
        "count": len(windows),
        "latency_ms": spread_of(chain.from_iterable(latencies_by_window)),
        "pause_ms": spread_of(max(latencies) for latencies in latencies_by_window if latencies),
    }
