"""The result of a run: ranks of pupils, anchors apart, counts, costs; nothing invented for a failed run."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from schemas.judging_events import CJBatchJudged, RecordRange, TokenPrices, TokenUsage
from tables.judging.next_step import Intend, Plan, next_step
from tables.judging.result import result_of
from tables.judging.run import Run, fold
from tables.judging.stopping_rule import Stop
from tests.support.judging_in_memory import (
    NOW_MS,
    answered,
    call_failed,
    coin_tosser,
    intended,
    judge_of,
    judged,
    opened,
    planned,
    records,
)

PRICES = TokenPrices(input=1, cache_write=2, cache_read=3, output=4)


def published(run: Run) -> CJBatchJudged:
    assert run.stopped is not None
    return result_of(run, Stop(run.stopped.outcome, run.stopped.reason))


@pytest.fixture(scope="module")
def complete() -> Run:
    """20 essays and 4 anchors."""
    run = fold(None, opened(20, anchors=4, seed=5))
    [*_, (_, end)] = records(run, judge_of(24, 5))
    return end


def test_essays_are_ranked_among_themselves(complete: Run) -> None:
    essays = published(complete).essays
    assert [essay.essay_id for essay in essays] == [f"item-{k}" for k in range(20)]
    assert sorted(essay.rank or 0 for essay in essays) == list(range(1, 21))
    by_rank = sorted(essays, key=lambda essay: essay.rank or 0)
    assert [essay.theta for essay in by_rank] == sorted(
        (essay.theta or 0.0 for essay in essays), reverse=True
    )
    assert [essay.percentile for essay in by_rank] == [97.5 - 5 * k for k in range(20)]


def test_anchors_are_apart(complete: Run) -> None:
    anchors = published(complete).anchors
    assert [anchor.anchor_id for anchor in anchors] == [f"item-{k}" for k in range(20, 24)]
    assert {anchor.grade for anchor in anchors} == {"A"}
    assert all(anchor.theta is not None and anchor.own_probability is None for anchor in anchors)


def test_a_rank_lies_in_its_interval_which_is_of_ninety_percent(complete: Run) -> None:
    essays = published(complete).essays
    widths = []
    for essay in essays:
        assert essay.rank is not None
        assert essay.rank_low is not None
        assert essay.rank_high is not None
        assert 1 <= essay.rank_low <= essay.rank <= essay.rank_high <= 20
        widths.append(essay.rank_high - essay.rank_low)
    true = np.argsort(np.argsort(-judge_of(24, 5).theta[:20])) + 1
    inside = [e.rank_low <= r <= e.rank_high for e, r in zip(essays, true, strict=True)]
    assert np.mean(inside) >= 0.8
    assert 2 < np.mean(widths) < 14


def test_equal_scores_share_a_rank() -> None:
    """Answers that cancel out: all scores are 0."""
    run = fold(None, opened(2))
    plan = next_step(run, NOW_MS)
    assert isinstance(plan, Plan)
    run = fold(run, planned(run, plan))
    calls = next_step(run, NOW_MS)
    assert isinstance(calls, Intend)
    run = fold(run, intended(run, calls.calls))
    run = fold(run, answered(run, calls.calls[0], first_wins=True))
    back = replace(plan.comparisons[0], number=1, first=plan.comparisons[0].second)
    back = replace(back, second=plan.comparisons[0].first, purpose="audit")
    run = fold(run, planned(run, Plan(2, (back,))))
    again = next_step(run, NOW_MS)
    assert isinstance(again, Intend)
    run = fold(run, intended(run, again.calls))
    run = fold(run, answered(run, again.calls[0], first_wins=True))
    essays = result_of(run, Stop("partial", "exhausted")).essays
    assert [(essay.theta, essay.rank, essay.percentile) for essay in essays] == [(0.0, 1, 50.0)] * 2


def test_essays_of_one_text_and_their_result_are_flagged(complete: Run) -> None:
    first, second, *others = complete.opened.essays
    copied = replace(second, storage_id=first.storage_id)
    run = replace(complete, opened=replace(complete.opened, essays=(first, copied, *others)))
    result = published(run)
    assert ["same_text" in essay.flags for essay in result.essays] == [True, True] + [False] * 18
    assert result.flags[-1:] == ("same_text",)
    assert all(essay.rank is not None for essay in result.essays)
    failed = result_of(run, Stop("failed", "no_signal"))
    assert [essay.flags for essay in failed.essays[:3]] == [("same_text",), ("same_text",), ()]
    assert "same_text" not in str(published(complete))


def test_counts_of_an_essay_are_its_own(complete: Run) -> None:
    asked = [one.plan for one in complete.comparisons]
    appearances = Counter(item for plan in asked for item in (plan.first, plan.second))
    first = Counter(plan.first for plan in asked)
    for number, essay in enumerate(published(complete).essays):
        assert (essay.comparisons, essay.shown_first) == (appearances[number], first[number])


def test_figures_are_rounded_to_six_decimals(complete: Run) -> None:
    found = published(complete)
    assert found.reliability is not None
    figures = [found.reliability.pr, found.reliability.delta, found.reliability.spread]
    figures += [essay.theta or 0.0 for essay in found.essays]
    assert figures == [round(figure, 6) for figure in figures]
    assert found.reliability.bound >= 0.70


def test_where_and_what_it_is_of(complete: Run) -> None:
    at = RecordRange(topic="judging", partition=0, start=5, end=9)
    found = result_of(complete, Stop("complete", "reliable"), at)
    assert (found.event_id, found.run_id) == ("run-5/judged", "run-5")
    assert found.provenance.judging == at
    assert (found.provenance.batch, found.provenance.request) == (
        complete.opened.batch,
        complete.opened.request,
    )
    assert found.judge is not None
    assert [(used.model, used.calls) for used in found.judge.used] == [
        ("sim-1", found.counts.answered)
    ]


@pytest.mark.parametrize(("scale", "status"), [(None, "not_asked"), ("swedish_8_anchor", "none")])
def test_there_are_no_grades_without_anchors(scale: str | None, status: str) -> None:
    run = judged(judge_of(6, 1), seed=1)
    context = replace(run.opened.context, grade_scale=scale)
    grading = published(replace(run, opened=replace(run.opened, context=context))).grading
    assert grading is not None
    assert (grading.status, grading.reason) == (status, "no_anchors" if scale else None)


def test_a_failed_run_has_neither_scores_nor_ranks() -> None:
    run = judged(coin_tosser(42, 3), seed=3)
    found = published(run)
    assert (found.outcome, found.reason) == ("failed", "no_signal")
    assert found.reliability is not None
    assert {(e.rank, e.theta, e.se, e.percentile, e.infit) for e in found.essays} == {(None,) * 5}
    assert sum(essay.comparisons for essay in found.essays) == 2 * found.counts.answered


def test_a_run_without_any_answer_has_a_result() -> None:
    found = result_of(fold(None, opened(1)), Stop("failed", "too_few_answers"))
    assert (found.reliability, found.flags, found.counts.calls) == (None, (), 0)
    assert [essay.comparisons for essay in found.essays] == [0]


def with_one_call_of_each_kind(prices: TokenPrices | None) -> Run:
    run = fold(None, opened(8, prices=prices))
    plan = next_step(run, NOW_MS)
    assert isinstance(plan, Plan)
    run = fold(run, planned(run, plan))
    step = next_step(run, NOW_MS, lambda _first, _second: 100 if prices else None)
    assert isinstance(step, Intend)
    run = fold(run, intended(run, step.calls))
    usage = TokenUsage(input=5, cache_write=0, cache_read=0, output=5, reasoning=1)
    paid = replace(answered(run, step.calls[0], first_wins=True), usage=usage)
    run = fold(run, replace(paid, cost_pusd=25 if prices else None))
    run = fold(run, call_failed(run, step.calls[1], "truncated"))
    return fold(run, call_failed(run, step.calls[2], "timeout"))


def test_costs_are_exact_and_what_is_open_at_the_end_is_in_doubt() -> None:
    cost = result_of(with_one_call_of_each_kind(PRICES), Stop("failed", "too_few_answers")).cost
    assert (cost.spent_pusd, cost.unknown_calls, cost.in_doubt_pusd) == (125, 1, 200)
    assert (cost.tokens.input, cost.tokens.output, cost.tokens.reasoning) == (5, 5, 1)


def test_without_prices_a_cost_is_unknown_and_not_zero() -> None:
    cost = result_of(with_one_call_of_each_kind(None), Stop("failed", "too_few_answers")).cost
    assert (cost.spent_pusd, cost.in_doubt_pusd, cost.unknown_calls) == (None, None, 2)


def test_calls_are_counted_by_what_came_of_them() -> None:
    found = result_of(with_one_call_of_each_kind(PRICES), Stop("failed", "too_few_answers"))
    assert (found.counts.comparisons, found.counts.answered, found.counts.calls) == (4, 1, 4)
    assert [(one.reason, one.calls) for one in found.counts.failed] == [
        ("timeout", 1),
        ("truncated", 1),
    ]
    assert found.prompts.count == 4
