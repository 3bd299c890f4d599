"""What a run needs next, and at which limit it ends."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from schemas.judging_events import JudgingOpened
from tables.judging.next_step import Call, Intend, Plan, Step, Wait, next_step
from tables.judging.run import Run, abandon_calls, fold
from tables.judging.stopping_rule import Stop
from tests.support.judging_in_memory import (
    DEADLINE_MS,
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


def step_of(run: Run, now_ms: int = NOW_MS, slots: int | None = None) -> Step:
    return next_step(run, now_ms, at_bound, slots)


def with_wave(record: JudgingOpened) -> Run:
    run = fold(None, record)
    step = step_of(run)
    assert isinstance(step, Plan)
    return fold(run, planned(run, step))


def with_calls(run: Run, slots: int | None = None) -> tuple[Run, tuple[Call, ...]]:
    step = step_of(run, slots=slots)
    assert isinstance(step, Intend)
    return fold(run, intended(run, step.calls)), step.calls


def with_answers(run: Run, calls: tuple[Call, ...]) -> Run:
    for call in calls:
        run = fold(run, answered(run, call, call.first < call.second))
    return run


def with_all_answered(run: Run) -> Run:
    return with_answers(*with_calls(run))


def with_failures(run: Run, reason: str, rounds: int = 1) -> Run:
    """Each pending comparison fails so many times."""
    for _ in range(rounds):
        step = next_step(run, DEADLINE_MS - 1, at_bound)
        assert isinstance(step, Intend)
        run = fold(run, intended(run, step.calls))
        for call in step.calls:
            run = fold(run, call_failed(run, call, reason))
    return run


def test_a_run_begins_with_a_wave_of_all_items() -> None:
    step = step_of(fold(None, opened(6)))
    assert isinstance(step, Plan)
    assert (step.wave, [one.number for one in step.comparisons]) == (1, [0, 1, 2])


def test_only_free_slots_are_used() -> None:
    run, calls = with_calls(with_wave(opened(10)), slots=2)
    assert len(calls) == 2
    assert step_of(run, slots=0) == Wait(DEADLINE_MS)
    assert isinstance(step_of(run, slots=1), Intend)


def test_the_next_wave_waits_for_all_answers() -> None:
    run, calls = with_calls(with_wave(opened(10)))
    run = with_answers(run, calls[:-1])
    assert step_of(run) == Wait(DEADLINE_MS)
    assert isinstance(step_of(with_answers(run, calls[-1:])), Plan)


def test_with_a_quorum_the_next_wave_waits_for_most_answers_and_for_each_try() -> None:
    run, calls = with_calls(with_wave(opened(20, policy='{"quorum":0.9}')), slots=9)
    run = with_answers(run, calls)
    assert isinstance(step_of(run), Intend)
    run, _ = with_calls(run)
    assert isinstance(step_of(run), Plan)


def test_a_failed_call_is_asked_again_when_its_time_has_come() -> None:
    run, calls = with_calls(with_wave(opened(4)))
    run = with_answers(run, calls[1:])
    run = fold(run, call_failed(run, calls[0], "provider_error"))
    step = step_of(run)
    assert isinstance(step, Wait)
    assert step.until_ms is not None
    again = step_of(run, now_ms=step.until_ms)
    assert isinstance(again, Intend)
    assert [(call.number, call.attempt) for call in again.calls] == [(0, 2)]
    assert step_of(run, now_ms=step.until_ms - 1) == step


def test_a_stopped_run_needs_nothing() -> None:
    assert step_of(judged(judge_of(6, 1), seed=1)) == Wait()


# at a limit: how the run got there, the time of the last step, and its end
Story = Callable[[], Run]
ALL_LOST = [("invalid_answer", 3), ("declined", 3), ("provider_error", 6), ("timeout", 6)]


def test_a_deadline_ends_a_run_once_its_calls_have_ended() -> None:
    run = with_all_answered(with_all_answered_wave(with_wave(opened(6))))
    step = step_of(run)
    assert isinstance(step, Plan)
    run, calls = with_calls(fold(run, planned(run, step)))
    run = with_answers(run, calls[:1])
    assert step_of(run, now_ms=DEADLINE_MS) == Wait()
    run = with_answers(run, calls[1:])
    assert step_of(run, now_ms=DEADLINE_MS) == Stop("partial", "deadline")


def with_all_answered_wave(run: Run) -> Run:
    """All answers of the last wave, and the next wave."""
    run = with_all_answered(run)
    step = step_of(run)
    assert isinstance(step, Plan)
    return fold(run, planned(run, step))


def test_a_deadline_in_the_middle_of_a_wave_asks_no_more() -> None:
    run, calls = with_calls(with_all_answered_wave(with_wave(opened(10))), slots=3)
    assert step_of(run, now_ms=DEADLINE_MS) == Wait()
    run = with_answers(run, calls)
    assert isinstance(step_of(run, now_ms=DEADLINE_MS - 1), Intend)
    assert isinstance(step_of(run, now_ms=DEADLINE_MS), Stop)


def test_a_deadline_before_enough_answers_is_a_failure() -> None:
    run, calls = with_calls(with_wave(opened(10)), slots=3)
    run = with_answers(run, calls)
    assert step_of(run, now_ms=DEADLINE_MS) == Stop("failed", "too_few_answers")


def test_a_budget_is_used_as_far_as_it_goes() -> None:
    run, calls = with_calls(with_wave(opened(10, max_cost_pusd=3 * BOUND)))
    assert len(calls) == 3
    assert step_of(run) == Wait()  # an answer may cost less than its bound
    cheap = replace(answered(run, calls[0], first_wins=True), cost_pusd=1)
    dear = replace(answered(run, calls[1], first_wins=True), cost_pusd=BOUND)
    step = step_of(fold(fold(run, cheap), dear))
    assert step == Wait()
    third = replace(answered(run, calls[2], first_wins=True), cost_pusd=1)
    assert isinstance(step_of(fold(fold(fold(run, cheap), dear), third)), Intend)


def test_a_budget_without_room_for_a_call_ends_the_run() -> None:
    run = fold(None, opened(2, max_cost_pusd=BOUND - 1))
    assert step_of(run) == Stop("failed", "too_few_answers")
    run = with_all_answered_wave(with_wave(opened(3)))
    run = with_all_answered(run)
    poor = replace(run, ledger=replace(run.ledger, max_cost_pusd=run.ledger.spent_pusd))
    assert step_of(poor) == Stop("partial", "budget")


def test_calls_of_a_dead_process_hold_their_money_and_no_run_open() -> None:
    run, _ = with_calls(with_wave(opened(4, max_cost_pusd=3 * BOUND)))
    again = step_of(abandon_calls(run))
    assert isinstance(again, Intend)
    assert len(again.calls) == 1
    run = replace(run, ledger=replace(run.ledger, max_cost_pusd=2 * BOUND))
    assert step_of(run) == Wait(DEADLINE_MS)
    assert step_of(abandon_calls(run)) == Stop("failed", "too_few_answers")


def test_the_maximum_of_comparisons_ends_a_run() -> None:
    run = with_wave(opened(6, max_comparisons=5))
    run = with_all_answered(run)
    step = step_of(run)
    assert isinstance(step, Plan)
    assert len(step.comparisons) == 2
    run = with_all_answered(fold(run, planned(run, step)))
    assert step_of(run) == Stop("partial", "comparisons")


def test_the_maximum_of_an_item_ends_a_run() -> None:
    run = judged(judge_of(8, 1), seed=1, policy='{"per_item_max":3}')
    assert run.stopped is not None
    assert (run.stopped.outcome, run.stopped.reason) == ("partial", "comparisons")
    assert run.pairs.compared().max() == 3


def test_without_a_pair_left_a_run_is_exhausted() -> None:
    run = judged(judge_of(4, 1), seed=1)
    assert run.stopped is not None
    assert (run.stopped.outcome, run.stopped.reason) == ("partial", "exhausted")
    assert sum(one.plan.purpose != "audit" for one in run.comparisons) == 6


@pytest.mark.parametrize("items", [0, 1])
def test_less_than_two_items_cannot_be_judged(items: int) -> None:
    assert step_of(fold(None, opened(items))) == Stop("failed", "too_few_answers")


@pytest.mark.parametrize(("reason", "rounds"), ALL_LOST)
def test_a_provider_that_never_answers_ends_the_run(reason: str, rounds: int) -> None:
    run = with_failures(with_wave(opened(6)), reason, rounds)
    assert step_of(run) == Stop("failed", "provider_failing")


def test_losses_are_forgotten_after_two_waves() -> None:
    run, calls = with_calls(with_wave(opened(10)))
    run = with_answers(run, calls[:3])
    for call in calls[3:]:
        run = fold(run, call_failed(run, call, "request_refused"))
    assert step_of(run) == Stop("failed", "provider_failing")  # 2 of 5


def test_a_refused_key_ends_the_run_when_open_calls_have_ended() -> None:
    run, calls = with_calls(with_wave(opened(6)), slots=2)
    run = fold(run, call_failed(run, calls[0], "provider_refused"))
    assert step_of(run) == Wait()
    run = with_answers(run, calls[1:])
    assert step_of(run) == Stop("failed", "provider_refused")


def test_a_refused_request_ends_the_run_only_if_nothing_was_ever_answered() -> None:
    run, calls = with_calls(with_wave(opened(20)), slots=2)
    run = fold(run, call_failed(run, calls[0], "request_refused"))
    assert step_of(run) == Wait()
    assert isinstance(step_of(with_answers(run, calls[1:])), Intend)
    run = fold(run, call_failed(run, calls[1], "request_refused"))
    assert step_of(run) == Stop("failed", "provider_refused")


def test_an_end_waits_for_open_calls_and_may_change_with_their_answers() -> None:
    run = fold(None, opened(42, seed=2, policy='{"quorum":0.5,"target_bound":0.0}'))
    for _ in range(3):
        run = with_all_answered_wave(run if run.waves else with_wave(run.opened))
    run, calls = with_calls(run)
    run = with_answers(run, calls[:-1])
    assert step_of(run) == Wait()
    assert step_of(with_answers(run, calls[-1:])) == Stop("complete", "reliable")
