"""Judges that are killed or frozen anywhere, with a provider that counts its calls: every call is accounted for."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from pydantic import SecretStr

from processors.judging.judges.judge import CallId
from processors.kafka.clients import judge_transactional_id
from processors.kafka.offsets import with_open_transactions
from processors.kafka.transactional_producer import producer_with_id
from processors.s3_settings import S3Settings
from processors.settings import Settings
from schemas.judging_events import JudgingEvent
from tables.judging.run import Run, fold
from tests.faults.asking import pause
from tests.faults.counting_provider import ADDRESS, COMMAND, CountingProvider, counting_provider
from tests.faults.planned_faults import Plan
from tests.faults.running import Process
from tests.simulation.judging.crashing_judge import check_budget
from tests.support.installations import installation
from tests.support.judged_batches import append_batches, judging_of, results_of
from tests.support.run_command import ROOT
from tests.support.s3_stub import bucket_server
from tests.support.until import until
from tools.broker import Broker

pytestmark = pytest.mark.timeout(1500)
POINTS = ("committing", "committed", "sent", "answered")
LIMIT = 8  # calls at a time
SEED = 20
SESSION_S = 6
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
        provider: CountingProvider,
        plan: Plan,
        slot: str = "one",
        of: Settings = settings,
        **overrides: object,
    ) -> Process:
        own = of.model_copy(update={**COMMON, "slot": slot, **overrides})
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
        check_budget(run)
    assert run is not None
    return run


def runs_of(settings: Settings) -> Mapping[str, Run]:
    return {run_id: folded(events) for run_id, events in judging_of(settings).items()}


def calls_without_outcome(runs: Mapping[str, Run]) -> set[str]:
    """The calls that were intended and have no outcome in the log."""
    return {
        str(CallId(run_id, one.plan.number, attempt.intent.attempt))
        for run_id, run in runs.items()
        for one in run.comparisons
        for attempt in one.attempts
        if attempt.outcome is None
    }


def is_stable(settings: Settings) -> bool:
    """Whether no transaction hides records of the judging log."""
    partitions = settings.partitions_of(settings.topics.judging)
    return not with_open_transactions(settings, partitions)


def open_calls_of_ended(settings: Settings, slot: str = "one") -> set[str]:
    """The open calls in the log of a judge that has ended, once no transaction of it can be committed any more."""
    own = settings.model_copy(update={"slot": slot})
    producer = producer_with_id(own, judge_transactional_id(own))
    producer.take_over()  # its last transaction is committed or aborted
    producer.close()
    return calls_without_outcome(runs_of(settings))


def check_accounts(
    settings: Settings, provider: CountingProvider, run_ids: Sequence[str], in_doubt: set[str]
) -> None:
    """One result for each batch; no call was sent twice or unintended.

    in_doubt: the calls that were open when a judge was killed or frozen; these and no others have no outcome.
    """
    results = results_of(settings)
    assert sorted(result.run_id for result in results) == sorted(run_ids)
    runs = runs_of(settings)
    intended = set[str]()
    doubtful_pusd = Counter[str]()
    for run_id, run in runs.items():
        for one in run.comparisons:
            for attempt in one.attempts:
                intended.add(str(CallId(run_id, one.plan.number, attempt.intent.attempt)))
                if attempt.outcome is None or attempt.is_in_doubt:
                    doubtful_pusd[run_id] += attempt.intent.bound_pusd or 0
    assert calls_without_outcome(runs) == in_doubt
    assert max(Counter(provider.calls).values()) == 1
    assert set(provider.calls) <= intended
    for result in results:
        ledger = runs[result.run_id].ledger
        assert result.cost.spent_pusd == ledger.spent_pusd
        assert result.cost.in_doubt_pusd == doubtful_pusd[result.run_id]


@pytest.mark.thorough
def test_a_judge_killed_twenty_times_gives_one_result_each_and_accounts_for_every_call(
    settings: Settings, start_judge: StartJudge, record_property: Callable[[str, object], None]
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
        judge, in_doubt = start_judge(provider, plans[0]), set[str]()
        for kills, plan in enumerate([*plans[1:], Plan()], 1):
            until(lambda: not judge.is_alive, 60)
            assert judge.exit_code == -9, judge.log_tail()
            assert judge.log_count("planned fault") == kills
            in_doubt |= open_calls_of_ended(settings)
            restart(judge, provider, plan)
        until(lambda: len(results_of(settings)) == len(run_ids), 120)
        check_accounts(settings, provider, run_ids, in_doubt)
        record_property("calls, open at kills", (len(provider.calls), len(in_doubt)))
    reasons = {count.reason for result in results_of(settings) for count in result.counts.failed}
    assert reasons == {"rate_limited", "provider_error", "invalid_answer", "timeout"}


@pytest.mark.thorough
@pytest.mark.parametrize("point", ["committing", "committed"])
def test_a_judge_that_is_frozen_in_a_transaction_and_revived_commits_nothing(
    settings: Settings, start_judge: StartJudge, point: str
) -> None:
    run_ids = append_batches(settings, 24, essays=4)
    fast = {"session_timeout_s": SESSION_S}
    with counting_provider(is_faulty=False) as provider:
        frozen = start_judge(provider, Plan(action="stop", point=point, nth=6), "one", **fast)
        until(lambda: frozen.is_frozen, 60)
        if point == "committed":
            until(lambda: is_stable(settings))  # its markers follow the commit
        in_doubt = calls_without_outcome(runs_of(settings))
        start_judge(provider, Plan(), "two", **fast)
        until(lambda: len(results_of(settings)) == len(run_ids), 120)
        frozen.thaw()
        more = append_batches(settings, 8, essays=4, first_number=24)
        until(lambda: len(results_of(settings)) == len(run_ids) + 8, 120)
        check_accounts(settings, provider, [*run_ids, *more], in_doubt)


@pytest.mark.thorough
def test_another_judge_that_joins_and_leaves_twice_in_the_middle_of_a_wave_costs_no_call(
    settings: Settings, start_judge: StartJudge
) -> None:
    run_ids = append_batches(settings, 12, essays=6)
    fast = {"session_timeout_s": SESSION_S}
    with counting_provider(is_faulty=False, answers_after_s=0.3) as provider:
        first = start_judge(provider, Plan(), **fast)
        until(lambda: len(provider.calls) > 20, 60)
        another = start_judge(
            provider, Plan(), slot="", **fast
        )  # without a slot, it leaves at once
        until(lambda: first.log_count("partitions revoked"), 60)
        assert another.stop() == 0, another.log_tail()  # before it owns what the first gave up
        restart(another, provider, Plan())
        until(lambda: another.log_count("fetching from the committed offsets"), 60)
        asked = len(provider.calls)
        until(lambda: len(provider.calls) > asked + LIMIT, 60)
        assert another.stop() == 0, another.log_tail()
        assert len(results_of(settings)) < len(run_ids)
        until(lambda: len(results_of(settings)) == len(run_ids), 120)
        assert first.is_alive
        check_accounts(settings, provider, run_ids, in_doubt=set())
    runs = runs_of(settings).values()
    assert {len(one.attempts) for run in runs for one in run.comparisons} == {1}


@pytest.mark.thorough
def test_a_budget_is_never_passed_when_judges_are_killed(
    settings: Settings, start_judge: StartJudge
) -> None:
    run_ids = append_batches(settings, 8, essays=8)
    poor = {"judge_max_cost_usd": 0.004}
    with counting_provider(is_faulty=True) as provider:
        judge, in_doubt = start_judge(provider, Plan(point="sent", nth=20), **poor), set[str]()
        for plan in (Plan(point="answered", nth=30), Plan(point="sent", nth=25), Plan()):
            until(lambda: not judge.is_alive, 60)
            in_doubt |= open_calls_of_ended(settings)
            restart(judge, provider, plan)
        until(lambda: len(results_of(settings)) == len(run_ids), 120)
        check_accounts(settings, provider, run_ids, in_doubt)
    assert "budget" in {result.reason for result in results_of(settings)}


@pytest.mark.thorough
def test_a_judge_waits_while_the_content_store_is_away_and_then_goes_on(
    settings: Settings, start_judge: StartJudge
) -> None:
    with bucket_server() as bucket, counting_provider(is_faulty=False) as provider:
        s3 = S3Settings(
            endpoint=bucket.endpoint,
            region="test",
            access_key_id="any",
            secret_access_key=SecretStr("any"),
        )
        own = settings.model_copy(update={"content_url": "s3://bucket", "s3": s3})
        run_ids = append_batches(own, 4, essays=8)
        bucket.is_gone = True
        judge = start_judge(provider, Plan(point="answered", nth=20), of=own)
        until(lambda: judge.log_count("a batch waits for its texts or anchors"), 180)
        bucket.is_gone = False
        until(lambda: not judge.is_alive, 60)  # killed in the middle of its runs
        in_doubt = open_calls_of_ended(own)
        bucket.is_gone = True
        restart(judge, provider, Plan())
        until(lambda: judge.log_count("a run cannot ask its judge"), 180)
        assert len(results_of(own)) < len(run_ids)
        asked = len(provider.calls)
        bucket.is_gone = False
        until(lambda: len(results_of(own)) == len(run_ids), 120)
        assert len(provider.calls) > asked
        check_accounts(own, provider, run_ids, in_doubt)
        assert {result.outcome for result in results_of(own)} <= {"complete", "partial"}


def readable_results(settings: Settings) -> int:
    """How many results there are; 0 while the broker that restarted cannot give them."""
    with suppress(KafkaException):
        return len(results_of(settings))
    return 0


@pytest.mark.thorough
@pytest.mark.timeout(400)
def test_a_broker_that_restarts_in_the_middle_of_a_wave_loses_no_answer(
    tmp_path: Path, start_judge: StartJudge
) -> None:
    with (
        Broker.temporary(ROOT / ".cjstream") as broker,
        counting_provider(is_faulty=True) as provider,
    ):
        own = installation(broker, tmp_path)
        run_ids = append_batches(own, 24, essays=6)
        # a transaction may stay open for as long as the broker is away, which is long on a busy machine
        bounds = {"session_timeout_s": SESSION_S, "transaction_timeout_s": 60}
        judge = start_judge(provider, Plan(), of=own, **bounds)
        until(lambda: len(provider.calls) > 60, 60)
        assert len(results_of(own)) < len(run_ids)
        broker.stop()
        pause(
            SESSION_S + 2
        )  # the cycle waits for its commit, while the client gives up its membership
        broker.start()
        until(lambda: not judge.is_alive or readable_results(own) == len(run_ids), 240)
        assert judge.is_alive, judge.log_tail()
        # intended in a transaction of unknown outcome, and never sent
        unsent = calls_without_outcome(runs_of(own))
        assert not unsent.intersection(provider.calls)
        check_accounts(own, provider, run_ids, unsent)
