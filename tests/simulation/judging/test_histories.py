"""Runs that are cut, crash or meet faults: one result each, the same scores, and never more money than allowed."""

import json
import random

import pytest

from schemas.judging_events import CJBatchJudged, JudgingEvent, JudgingStopped
from tables.judging.next_step import Plan, next_step
from tables.judging.result import result_of
from tables.judging.run import Run, abandon_calls, fold
from tables.judging.stopping_rule import Stop
from tests.simulation.judging.crashing_judge import BOUND_PUSD, PRICES, CrashingJudge
from tests.support.judging_in_memory import judge_of, opened, records

TEN_CENTS_PUSD = 100_000_000_000


def samples(name: str, few: int, more: int, many: int) -> pytest.MarkDecorator:
    """Three sizes of one sample: for each run of the suite, for thorough ones, for long ones."""
    long = (pytest.mark.long, pytest.mark.timeout(1_800))
    sizes = [few, pytest.param(more, marks=pytest.mark.thorough), pytest.param(many, marks=long)]
    return pytest.mark.parametrize(name, sizes)


def result(run: Run) -> CJBatchJudged:
    assert run.stopped is not None
    return result_of(run, Stop(run.stopped.outcome, run.stopped.reason))


def folded(log: list[JudgingEvent]) -> Run:
    run: Run | None = None
    for record in log:
        run = fold(run, record)
    assert run is not None
    return run


@samples("items", 8, 16, 42)
def test_a_run_cut_after_any_record_and_continued_has_the_same_scores(items: int) -> None:
    first = opened(items, seed=items)
    whole = [(first, fold(None, first)), *records(fold(None, first), judge_of(items, 3))]
    expected = result(whole[-1][1])
    assert expected.counts.answered > 3 * items
    for _, cut in whole[:-1]:
        [*_, (_, end)] = records(abandon_calls(cut), judge_of(items, 3))
        found = result(end)
        assert (found.essays, found.reliability) == (expected.essays, expected.reliability)
        assert (found.outcome, found.reason, found.flags) == (
            expected.outcome,
            expected.reason,
            expected.flags,
        )


def history(seed: int) -> CrashingJudge:
    choose = random.Random(seed)
    items = choose.randrange(2, 11)
    return CrashingJudge(
        opened(
            items,
            seed=seed,
            policy=json.dumps(
                {"per_item_max": choose.choice((4, 6, 9)), "quorum": choose.choice((0.9, 1.0))}
            ),
            max_cost_pusd=choose.choice((None, 40 * BOUND_PUSD, 8 * BOUND_PUSD, BOUND_PUSD - 1)),
            max_comparisons=choose.choice((1_000, 25)),
            prices=PRICES,
        ),
        judge_of(items, seed),
        choose,
        fault_share=choose.choice((0.0, 0.1, 0.4)),
        crash_share=choose.choice((0.0, 0.02, 0.1)),
        slots=choose.choice((1, 4, 32)),
    )


@samples("histories", 60, 400, 2_000)
@pytest.mark.timeout(1_800)
def test_a_run_that_crashes_anywhere_has_one_result_and_keeps_its_budget(histories: int) -> None:
    crashes, reasons = 0, set()
    for seed in range(histories):
        process = history(seed)
        run = process.run_to_end()
        crashes += process.crashes
        assert run.stopped is not None
        reasons.add(run.stopped.reason)
        assert sum(isinstance(record, JudgingStopped) for record in process.log) == 1, seed
        [published] = process.results
        assert result(folded(process.log)) == published, seed
        assert published.cost.spent_pusd is not None
        assert published.cost.in_doubt_pusd is not None
        claimed = published.cost.spent_pusd + published.cost.in_doubt_pusd
        assert process.paid_pusd <= claimed, seed
        assert run.opened.max_cost_pusd is None or claimed <= run.opened.max_cost_pusd, seed
    assert crashes > histories / 2
    assert reasons >= {"budget", "comparisons", "exhausted", "too_few_answers"}, reasons


@pytest.mark.parametrize("seed", range(30))
def test_each_plan_and_the_end_follow_from_the_records_before(seed: int) -> None:
    process = history(seed)
    process.run_to_end()
    run: Run | None = None
    for record in process.log:
        if run is not None and record.__class__.__name__ == "WavePlanned":
            step = next_step(run, 0, lambda _first, _second: BOUND_PUSD)
            assert isinstance(step, Plan)
            assert step.comparisons == record.comparisons  # type: ignore[union-attr]
        run = fold(run, record)


@pytest.mark.parametrize("seed", range(20))
def test_repeated_records_change_nothing(seed: int) -> None:
    process = history(seed)
    end = process.run_to_end()
    run: Run | None = None
    for number, record in enumerate(process.log):
        run = fold(run, record)
        assert fold(run, process.log[seed * 7 % (number + 1)]) == run
    assert run is not None
    assert result(run) == result(end)


@samples("runs", 25, 100, 500)
@pytest.mark.timeout(1_800)
def test_ten_cents_are_never_passed_with_thirty_percent_faults(runs: int) -> None:
    spent = []
    for seed in range(runs):
        process = CrashingJudge(
            opened(42, seed=seed, max_cost_pusd=TEN_CENTS_PUSD, prices=PRICES),
            judge_of(42, seed),
            random.Random(seed),
            fault_share=0.3,
            crash_share=0.002,
        )
        run = process.run_to_end()
        assert run.stopped is not None
        assert process.paid_pusd <= run.ledger.committed_pusd <= TEN_CENTS_PUSD, seed
        spent.append(run.ledger.committed_pusd)
    assert min(spent) > TEN_CENTS_PUSD - 2 * BOUND_PUSD  # and it is used
