"""The fold of a run's records: what repeats changes nothing, what contradicts is a discrepancy."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from schemas.errors import Discrepancy
from schemas.judging_events import (
    CallFailed,
    CallsIntended,
    IntendedCall,
    JudgingEvent,
    JudgingOpened,
    JudgingStopped,
    PlannedComparison,
    WavePlanned,
)
from tables.judging.next_step import Call, Intend, Plan, next_step
from tables.judging.run import Run, abandon_calls, fold
from tests.support.judging_in_memory import (
    NOW_MS,
    answered,
    call_failed,
    intended,
    judge_of,
    judged,
    opened,
    planned,
)

BOUND = 100


def at_bound(_first: int, _second: int) -> int:
    return BOUND


def run_with_wave(max_cost_pusd: int | None = None) -> Run:
    run = fold(None, opened(4, max_cost_pusd=max_cost_pusd))
    step = next_step(run, NOW_MS, at_bound)
    assert isinstance(step, Plan)
    return fold(run, planned(run, step))


def run_with_calls(max_cost_pusd: int | None = None) -> tuple[Run, tuple[Call, ...]]:
    run = run_with_wave(max_cost_pusd)
    step = next_step(run, NOW_MS, at_bound)
    assert isinstance(step, Intend)
    return fold(run, intended(run, step.calls)), step.calls


def test_every_record_repeated_changes_nothing() -> None:
    run, calls = run_with_calls()
    stop = JudgingStopped(
        run_id="run-1", outcome="failed", reason="x", decided_at_ms=1, result_sha256="0"
    )
    answer = answered(run, calls[0], first_wins=True)
    failure = call_failed(run, calls[1], "timeout")
    after = fold(fold(fold(run, answer), failure), stop)
    wave = planned(run, Plan(1, tuple(one.plan for one in run.waves[0].comparisons)))
    for record in (run.opened, wave, intended(run, calls), answer, failure, stop):
        assert fold(after, record) == after


Change = Callable[[Run, tuple[Call, ...]], JudgingEvent]

CONTRADICTIONS: dict[str, Change] = {
    "opened twice": lambda run, calls: replace(run.opened, seed=9),
    "another run": lambda run, calls: replace(answered(run, calls[0], True), run_id="run-2"),
    "another wave 1": lambda run, calls: WavePlanned(run_id="run-1", wave=1, comparisons=()),
    "wave 3 after 1": lambda run, calls: wave_of(run, wave=3),
    "an empty wave": lambda run, calls: WavePlanned(run_id="run-1", wave=2, comparisons=()),
    "a gap in the numbers": lambda run, calls: wave_of(run, number=9),
    "an unknown item": lambda run, calls: wave_of(run, second=4),
    "a negative item": lambda run, calls: wave_of(run, second=-1),
    "an item with itself": lambda run, calls: wave_of(run, second=0),
    "an unplanned comparison": lambda run, calls: intent(number=9, attempt=1),
    "another intent": lambda run, calls: intent(number=0, attempt=1),
    "a skipped attempt": lambda run, calls: intent(number=0, attempt=3),
    "an unintended answer": lambda run, calls: replace(answered(run, calls[0], True), attempt=2),
    "attempt 0": lambda run, calls: replace(answered(run, calls[0], True), attempt=0),
    "an answer to nothing": lambda run, calls: replace(answered(run, calls[0], True), number=9),
    "items swapped": lambda run, calls: replace(
        answered(run, calls[0], True), first_id=run.items[calls[0].second].id
    ),
    "another prompt": lambda run, calls: replace(
        answered(run, calls[0], True), prompt_sha256="f" * 64
    ),
    "no winner": lambda run, calls: replace(answered(run, calls[0], True), winner="tie"),
    "an unknown reason": lambda run, calls: call_failed(run, calls[0], "bad_mood"),
}


def wave_of(run: Run, *, wave: int = 2, number: int | None = None, second: int = 1) -> WavePlanned:
    number = run.planned if number is None else number
    one = PlannedComparison(number=number, first=0, second=second, purpose="cover")
    return WavePlanned(run_id="run-1", wave=wave, comparisons=(one,))


def intent(number: int, attempt: int) -> CallsIntended:
    call = IntendedCall(number=number, attempt=attempt, prompt_sha256="a" * 64)
    return CallsIntended(run_id="run-1", mode="live", calls=(call,))


def test_the_changes_are_contradictions_only_because_of_what_they_change() -> None:
    run, _ = run_with_calls()
    assert fold(run, wave_of(run)).planned == run.planned + 1


@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_a_contradiction_is_a_discrepancy(contradiction: str) -> None:
    run, calls = run_with_calls()
    with pytest.raises(Discrepancy, match=r"run run-1"):
        fold(run, CONTRADICTIONS[contradiction](run, calls))


def test_a_run_of_another_engine_is_a_discrepancy() -> None:
    with pytest.raises(Discrepancy, match="engine 2"):
        fold(None, replace(opened(4), engine=2))


def test_two_different_outcomes_of_an_attempt_are_a_discrepancy() -> None:
    run, calls = run_with_calls()
    run = fold(run, answered(run, calls[0], first_wins=True))
    for other in (answered(run, calls[0], first_wins=False), call_failed(run, calls[0], "timeout")):
        with pytest.raises(Discrepancy, match="two different outcomes"):
            fold(run, other)


def test_a_settled_comparison_is_not_asked_again() -> None:
    run, calls = run_with_calls()
    run = fold(run, answered(run, calls[0], first_wins=True))
    with pytest.raises(Discrepancy, match="attempts were enough"):
        fold(run, intent(number=0, attempt=2))


def test_a_run_begins_with_its_opening_and_ends_with_its_stop() -> None:
    run, calls = run_with_calls()
    with pytest.raises(Discrepancy, match="before JudgingOpened"):
        fold(None, answered(run, calls[0], first_wins=True))
    stop = JudgingStopped(
        run_id="run-1", outcome="failed", reason="x", decided_at_ms=1, result_sha256="0"
    )
    ended = fold(run, stop)
    for record in (
        answered(run, calls[0], first_wins=True),
        replace(stop, reason="y"),
        wave_of(run),
        intent(number=0, attempt=2),
    ):
        with pytest.raises(Discrepancy):
            fold(ended, record)


def test_an_attempt_without_outcome_that_is_asked_again_is_in_doubt_at_its_bound() -> None:
    run, calls = run_with_calls()
    assert (run.ledger.reserved_pusd, run.ledger.in_doubt_pusd) == (2 * BOUND, 0)
    step = next_step(abandon_calls(run), NOW_MS, at_bound)
    assert isinstance(step, Intend)
    assert [(call.number, call.attempt) for call in step.calls] == [(0, 2), (1, 2)]
    again = fold(run, intended(run, step.calls))
    assert (again.ledger.reserved_pusd, again.ledger.in_doubt_pusd) == (2 * BOUND, 2 * BOUND)
    late = replace(answered(run, calls[0], first_wins=True), cost_pusd=7)
    paid = fold(again, late)
    assert (paid.ledger.spent_pusd, paid.ledger.in_doubt_pusd) == (7, BOUND)
    assert paid.ledger.reserved_pusd == 2 * BOUND


def test_only_the_first_answer_of_a_comparison_counts() -> None:
    run, calls = run_with_calls()
    again = fold(run, intent_after(run, calls[0], attempt=2))
    once = fold(again, answered(run, calls[0], first_wins=True))
    twice = fold(once, answered(run, replace(calls[0], attempt=2), first_wins=False))
    assert once.open_calls == 2
    assert twice.open_calls == 1
    assert twice.answers.first_won.tolist() == [True]


def intent_after(run: Run, call: Call, attempt: int) -> CallsIntended:
    return intended(run, (replace(call, attempt=attempt),))


def test_an_intent_beyond_the_budget_is_a_discrepancy() -> None:
    run = run_with_wave(max_cost_pusd=BOUND)
    plan = run.waves[0].comparisons[0].plan
    first = Call(plan.number, 1, plan.first, plan.second, BOUND)
    with pytest.raises(Discrepancy, match="beyond the budget"):
        fold(run, intended(run, (replace(first, bound_pusd=BOUND + 1),)))
    with pytest.raises(Discrepancy, match="beyond the budget"):
        fold(run, intended(run, (replace(first, bound_pusd=None),)))
    assert fold(run, intended(run, (first,))).ledger.reserved_pusd == BOUND


@pytest.mark.parametrize(
    ("reason", "cost", "spent", "in_doubt", "unknown"),
    [
        ("invalid_answer", 30, 30, 0, 0),
        ("truncated", None, BOUND, 0, 1),
        ("rate_limited", 0, 0, 0, 0),
        ("provider_error", 0, 0, 0, 0),
        ("timeout", None, 0, BOUND, 0),
    ],
)
def test_what_a_failed_call_costs(
    reason: str, cost: int | None, spent: int, in_doubt: int, unknown: int
) -> None:
    run, calls = run_with_calls()
    failed = replace(call_failed(run, calls[0], reason), cost_pusd=cost)
    ledger = fold(run, failed).ledger
    assert (ledger.spent_pusd, ledger.in_doubt_pusd) == (spent, in_doubt)
    assert (ledger.reserved_pusd, ledger.unknown_calls) == (BOUND, unknown)


@pytest.mark.parametrize(
    ("reason", "attempts"),
    [
        ("invalid_answer", 3),
        ("truncated", 3),
        ("declined", 3),
        ("provider_error", 6),
        ("timeout", 6),
        ("request_refused", 1),
        ("provider_refused", 1),
    ],
)
def test_after_how_many_attempts_a_comparison_is_lost(reason: str, attempts: int) -> None:
    run, calls = run_with_calls()
    for attempt in range(1, attempts + 1):
        assert not run.comparison(0).is_lost
        call = replace(calls[0], attempt=attempt)
        run = fold(fold(run, intended(run, (call,))), call_failed(run, call, reason))
    assert run.comparison(0).is_lost


def test_a_rate_limit_loses_nothing_and_is_waited_out() -> None:
    run, calls = run_with_calls()
    for attempt in range(1, 20):
        call = replace(calls[0], attempt=attempt)
        limited: CallFailed = call_failed(run, call, "rate_limited")
        run = fold(fold(run, intended(run, (call,))), replace(limited, retry_after_ms=999_999_999))
    assert not run.comparison(0).is_settled
    ended_at_ms = limited.asked_at_ms + limited.took_ms
    assert run.comparison(0).retries.not_before_ms == ended_at_ms + 120_000


def test_faults_are_retried_after_a_growing_pause() -> None:
    run, calls = run_with_calls()
    pauses = []
    for attempt in range(1, 6):
        call = replace(calls[0], attempt=attempt)
        failed = call_failed(run, call, "provider_error")
        run = fold(fold(run, intended(run, (call,))), failed)
        ended_at_ms = failed.asked_at_ms + failed.took_ms
        pauses.append(run.comparison(0).retries.not_before_ms - ended_at_ms)
    for k, pause in enumerate(pauses):
        assert 500 * 2**k <= pause <= 1_000 * 2**k


def test_a_value_is_never_changed() -> None:
    first = opened(4)
    run = fold(None, first)
    before = repr(run)
    run_with = fold(run, wave_of(run, wave=1))
    assert repr(run) == before
    assert run_with.planned == 1
    assert isinstance(run.opened, JudgingOpened)


def test_folding_a_log_computes_no_scores() -> None:
    run = judged(judge_of(6, 1), seed=1)
    assert len(run.waves) > 3
    again = fold(None, run.opened)
    for number, wave in enumerate(run.waves, 1):
        again = fold(again, planned(run, Plan(number, tuple(one.plan for one in wave.comparisons))))
        for one in wave.comparisons:
            again = fold(
                again, CallsIntended(run_id="run-1", mode="live", calls=(one.attempts[0].intent,))
            )
            assert one.answer is not None
            again = fold(again, one.answer)
    assert again.previous is not None
    assert "fit" not in vars(again.previous)
    assert again.scores.fit.theta.tolist() == run.scores.fit.theta.tolist()
