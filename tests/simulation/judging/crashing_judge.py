"""A judge process in memory that may end between any two of its steps; what was committed is a list of records."""

import random
from dataclasses import dataclass, field, replace

from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CJBatchJudged,
    JudgingEvent,
    JudgingOpened,
    TokenPrices,
    TokenUsage,
)
from tables.judging.cost_ledger import bound_pusd, cost_pusd
from tables.judging.next_step import Call, Intend, Plan, Step, next_step
from tables.judging.result import result_of
from tables.judging.run import Run, abandon_calls, fold
from tables.judging.stopping_rule import Stop
from tests.support.judging_in_memory import (
    SimulatedJudge,
    answered,
    call_failed,
    intended,
    planned,
    stopped,
)

PRICES = TokenPrices(input=1_000_000, cache_write=1_250_000, cache_read=100_000, output=4_000_000)
REQUEST_BYTES = 5_000
OUTPUT_TOKENS = 200
FAULTS = ("invalid_answer", "truncated", "declined", "rate_limited", "provider_error", "timeout")
STEPS_MAX = 100_000


class Crash(Exception):
    """The process ends here."""


@dataclass
class CrashingJudge:
    """fault_share of the calls fail; before each step the process ends with probability crash_share.

    paid_pusd is what the provider charged, whether or not anybody heard of it.
    """

    opened: JudgingOpened
    judge: SimulatedJudge
    random: random.Random
    fault_share: float = 0.0
    crash_share: float = 0.0
    slots: int = 8
    log: list[JudgingEvent] = field(default_factory=list)
    results: list[CJBatchJudged] = field(default_factory=list)
    paid_pusd: int = 0
    crashes: int = 0
    now_ms: int = 1_000

    def run_to_end(self) -> Run:
        """The run after its last record; its process is started again after each crash."""
        while True:
            try:
                return self._process()
            except Crash:
                self.crashes += 1

    def _process(self) -> Run:
        """One process, from the log to the end of the run or a crash."""
        if not self.log:
            self._maybe_crash()
            self.log.append(self.opened)
        run: Run | None = None
        for record in self.log:
            run = fold(run, record)
        assert run is not None
        run = abandon_calls(run)
        in_flight: list[Call] = []
        for _ in range(STEPS_MAX):
            if run.stopped is not None:
                return run
            self._maybe_crash()
            slots = self.slots - len(in_flight)
            step = next_step(run, self.now_ms, lambda _first, _second: BOUND_PUSD, slots)
            run = self._committed(run, step)
            if isinstance(step, Intend):
                self._maybe_crash()  # committed, not sent
                in_flight += step.calls
            if in_flight and (not isinstance(step, Plan | Stop) or self.random.random() < 0.5):
                call = in_flight.pop(self.random.randrange(len(in_flight)))
                outcome = self._asked(run, call)
                self._maybe_crash()  # paid, not committed
                run = self._with(run, outcome)
                if self.random.random() < 0.1:  # offered once more after an aborted transaction
                    assert fold(run, outcome) == run
            elif not in_flight and not isinstance(step, Plan | Intend | Stop):
                assert step.until_ms is not None, step
                self.now_ms = max(self.now_ms, step.until_ms)
        raise AssertionError("the run does not end")

    def _committed(self, run: Run, step: Step) -> Run:
        match step:
            case Plan():
                return self._with(run, planned(run, step))
            case Intend(calls):
                return self._with(run, intended(run, calls))
            case Stop():
                assert run.open_calls == 0
                self.results.append(result_of(run, step))
                return self._with(run, stopped(run, step))
        return run

    def _with(self, run: Run, record: JudgingEvent) -> Run:
        after = fold(run, record)
        self.log.append(record)
        check_budget(after)
        return after

    def _asked(self, run: Run, call: Call) -> CallAnswered | CallFailed:
        self.now_ms += self.random.randrange(1, 50)
        output = self.random.randrange(20, OUTPUT_TOKENS + 1)
        tokens = self.random.randrange(REQUEST_BYTES // 6, REQUEST_BYTES + 1)
        cached = self.random.randrange(tokens + 1)
        usage = TokenUsage(
            input=tokens - cached, cache_write=0, cache_read=cached, output=output, reasoning=0
        )
        cost = cost_pusd(usage, PRICES)
        if self.random.random() >= self.fault_share:
            self.paid_pusd += cost
            first_wins = self.judge.first_wins(call.number, call.first, call.second)
            answer = replace(answered(run, call, first_wins), asked_at_ms=self.now_ms)
            if self.random.random() < 0.1:  # the provider does not say what it cost
                return answer
            return replace(answer, usage=usage, cost_pusd=cost)
        reason = self.random.choice(FAULTS)
        free = reason in ("rate_limited", "provider_error")
        if not free and (reason != "timeout" or self.random.random() < 0.5):
            self.paid_pusd += cost
        is_known = not free and reason != "timeout"
        return replace(
            call_failed(run, call, reason),
            usage=usage if is_known else None,
            cost_pusd=cost if is_known else 0 if free else None,
            asked_at_ms=self.now_ms,
            retry_after_ms=500 if reason == "rate_limited" else None,
        )

    def _maybe_crash(self) -> None:
        if self.random.random() < self.crash_share:
            raise Crash


BOUND_PUSD = bound_pusd(REQUEST_BYTES, OUTPUT_TOKENS, PRICES)


def check_budget(run: Run) -> None:
    """What a run has spent, reserved and in doubt is the sum of its calls, and within its budget."""
    ledger, open_calls, doubts, spent = run.ledger, 0, 0, 0
    for call in (call for one in run.comparisons for call in one.attempts):
        bound = call.intent.bound_pusd or 0
        if call.is_in_doubt:
            doubts += bound
        elif call.outcome is None:
            open_calls += bound
        else:
            cost = call.outcome.cost_pusd
            spent += bound if cost is None else cost
    assert (ledger.spent_pusd, ledger.in_doubt_pusd) == (spent, doubts)
    assert ledger.reserved_pusd == open_calls
    budget = run.opened.max_cost_pusd  # not as the ledger adds it up
    assert budget is None or spent + doubts + open_calls <= budget
