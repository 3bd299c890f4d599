"""Judges that are killed or frozen anywhere, with a provider that counts its calls: every call is accounted for."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from processors.settings import Settings
from schemas.judging_events import JudgingEvent
from tables.judging.run import Run, fold
from tests.faults.counting_provider import ADDRESS, COMMAND, CountingProvider, counting_provider
from tests.faults.faulty_worker import Plan
from tests.faults.running import Process
from tests.support.judged_batches import append_batches, judging_of, results_of
from tests.support.until import until

pytestmark = pytest.mark.timeout(600)
POINTS = ("committing", "committed", "sent", "answered")
LIMIT = 8  # calls at a time
SEED = 20
COMMON = {
    "judge": "simulated/sim-1",
    "judge_first_start": "beginning",
    "judge_runs_max": 64,
    "judge_concurrency_max": LIMIT,
    "call_timeout_s": 1,
}


StartJudge = Callable[..., Process]


@pytest.fixture
def start_judge(settings: Settings, tmp_path: Path) -> Iterator[StartJudge]:
    """A function that starts a judge with a planned fault, which asks a provider."""
    judges = list[Process]()

    def start(
        provider: CountingProvider, plan: Plan, slot: str = "one", **overrides: object
    ) -> Process:
        own = settings.model_copy(update={**COMMON, "slot": slot, **overrides})
        judge = Process(own, tmp_path / f"judge-{slot}.log", COMMAND)
        judges.append(judge)
        restart(judge, provider, plan)
        return judge

    yield start
    for judge in judges:
        judge.end()


def restart(judge: Process, provider: CountingProvider, plan: Plan) -> None:
    judge.environment = {**plan.variables(), ADDRESS: provider.address}
    judge.start()


def folded(events: Sequence[JudgingEvent]) -> Run:
    """The run of its records; at each of them the budget holds."""
    run: Run | None = None
    for event in events:
        run = fold(run, event)
        budget = run.opened.max_cost_pusd
        assert budget is None or run.ledger.committed_pusd <= budget
    assert run is not None
    return run


def runs_of(settings: Settings) -> Mapping[str, Run]:
    return {run_id: folded(events) for run_id, events in judging_of(settings).items()}


def check_accounts(
    settings: Settings, provider: CountingProvider, run_ids: Sequence[str], interruptions: int
) -> None:
    """One result for each batch; no call was sent twice or unintended; what has no outcome is in doubt."""
    results = results_of(settings)
    assert sorted(result.run_id for result in results) == sorted(run_ids)
    runs = runs_of(settings)
    recorded, in_doubt = set[str](), set[str]()
    doubtful_pusd = Counter[str]()
    for run_id, run in runs.items():
        for one in run.comparisons:
            for attempt in one.attempts:
                call = f"{run_id}:{one.plan.number}:{attempt.intent.attempt}"
                (recorded if attempt.outcome else in_doubt).add(call)
                if attempt.outcome is None or attempt.is_in_doubt:
                    doubtful_pusd[run_id] += attempt.intent.bound_pusd or 0
    assert max(Counter(provider.calls).values()) == 1
    assert set(provider.calls) <= recorded | in_doubt
    assert len(in_doubt) <= interruptions * LIMIT
    for result in results:
        ledger = runs[result.run_id].ledger
        assert result.cost.spent_pusd == ledger.spent_pusd
        assert result.cost.in_doubt_pusd == doubtful_pusd[result.run_id]


@pytest.mark.thorough
def test_a_judge_killed_twenty_times_gives_one_result_each_and_accounts_for_every_call(
    settings: Settings, start_judge: StartJudge
) -> None:
    run_ids = append_batches(settings, 200, essays=4)
    chance = random.Random(SEED)
    plans = [
        Plan(
            action="kill" if point.startswith("commit") else "",
            point=point,
            nth=chance.randint(4, 12),
        )
        for _ in range(5)
        for point in POINTS
    ]
    with counting_provider(is_faulty=True) as provider:
        judge = start_judge(provider, plans[0])
        for kills, plan in enumerate([*plans[1:], Plan()], 1):
            until(lambda: not judge.is_alive, 60)
            assert judge.exit_code == -9, judge.log_tail()
            assert judge.log_count("planned fault") == kills
            restart(judge, provider, plan)
        until(lambda: len(results_of(settings)) == len(run_ids), 120)
        check_accounts(settings, provider, run_ids, interruptions=len(plans))
    reasons = {count.reason for result in results_of(settings) for count in result.counts.failed}
    assert reasons == {"rate_limited", "provider_error", "invalid_answer", "timeout"}


@pytest.mark.thorough
@pytest.mark.parametrize("point", ["committing", "committed"])
def test_a_judge_that_is_frozen_in_a_transaction_and_revived_commits_nothing(
    settings: Settings, start_judge: StartJudge, point: str
) -> None:
    run_ids = append_batches(settings, 24, essays=4)
    fast = {"session_timeout_s": 6}
    with counting_provider(is_faulty=False) as provider:
        frozen = start_judge(provider, Plan(action="stop", point=point, nth=6), "one", **fast)
        until(lambda: frozen.is_frozen, 60)
        start_judge(provider, Plan(), "two", **fast)
        until(lambda: len(results_of(settings)) == len(run_ids), 120)
        frozen.thaw()
        more = append_batches(settings, 8, essays=4, first_number=24)
        until(lambda: len(results_of(settings)) == len(run_ids) + 8, 120)
        # in doubt: calls in flight at the freeze, and at the rebalances that its end causes
        check_accounts(settings, provider, [*run_ids, *more], interruptions=3)


@pytest.mark.thorough
def test_a_budget_is_never_passed_when_judges_are_killed(
    settings: Settings, start_judge: StartJudge
) -> None:
    run_ids = append_batches(settings, 8, essays=8)
    poor = {"judge_max_cost_usd": 0.004}
    with counting_provider(is_faulty=True) as provider:
        judge = start_judge(provider, Plan(point="sent", nth=20), **poor)
        for plan in (Plan(point="answered", nth=30), Plan(point="sent", nth=25), Plan()):
            until(lambda: not judge.is_alive, 60)
            restart(judge, provider, plan)
        until(lambda: len(results_of(settings)) == len(run_ids), 120)
        check_accounts(settings, provider, run_ids, interruptions=3)
    assert "budget" in {result.reason for result in results_of(settings)}
