"""A judge judges prepared batches on a real broker: one result each, and a log that tells everything."""

import hashlib

import pytest

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.codec import FRAME, Codec
from schemas.events import Essay
from schemas.judging_events import CallAnswered, CJBatchJudged, JudgingStopped
from tables.judging.result import result_of
from tables.judging.run import Run, fold
from tables.judging.stopping_rule import Stop
from tests.faults.reading import read_all
from tests.faults.running import StartWorker
from tests.support.builders import sha256_of
from tests.support.judged_batches import (
    JUDGE,
    append_batches,
    judging_event,
    judging_findings,
    judging_of,
    results_of,
)
from tests.support.until import until
from tools.audit.check.findings import Note

BEGINNING = {"judge": "simulated/sim-1", "judge_first_start": "beginning"}


def run_of(settings: Settings, run_id: str) -> Run:
    """A run as its records tell it."""
    run: Run | None = None
    for event in judging_of(settings)[run_id]:
        run = fold(run, event)
    assert run is not None
    return run


def made_again(settings: Settings, result: CJBatchJudged) -> CJBatchJudged:
    """The result of the records that a result names, made anew from the log."""
    judging, run = result.provenance.judging, None
    assert judging is not None
    events = [
        event
        for record in read_all(settings.bootstrap_servers, judging.topic, settings.partitions)
        if record.at.partition == judging.partition
        and judging.start <= record.at.offset < judging.end
        and (event := judging_event(record.value)).run_id == result.run_id
    ]
    for event in events:
        run = fold(run, event)
    assert run is not None
    assert run.stopped is None
    return result_of(run, Stop(result.outcome, result.reason), judging)


def test_every_batch_gets_one_result_that_its_log_explains(
    settings: Settings, start_worker: StartWorker
) -> None:
    run_ids = append_batches(settings, 5)
    judge = start_worker(command=JUDGE, **BEGINNING)
    until(lambda: len(results_of(settings)) == 5, 60)
    assert judge.stop() == 0
    results = results_of(settings)
    assert sorted(result.run_id for result in results) == sorted(run_ids)
    for result in results:
        run = run_of(settings, result.run_id)
        assert isinstance(run.stopped, JudgingStopped)
        body = Codec().encode(result)[FRAME.size :]
        assert run.stopped.result_sha256 == hashlib.sha256(body).hexdigest()
        assert run.ledger.spent_pusd == result.cost.spent_pusd
        assert (run.ledger.reserved_pusd, run.ledger.in_doubt_pusd) == (0, 0)
        assert made_again(settings, result) == result
        assert result.outcome in ("complete", "partial")
        assert len(result.essays) == 6
    assert judging_findings(settings) == []


@pytest.mark.thorough
def test_a_batch_with_missing_texts_is_refused_and_what_is_no_batch_is_skipped(
    settings: Settings, start_worker: StartWorker
) -> None:
    unstored = tuple(
        Essay(essay_id=f"e-{n}", text_storage_id=sha256_of(f"never stored {n}")) for n in (0, 1)
    )
    garbage = [Record(settings.topics.batches.name, 0, None, value) for value in (b"garbage", None)]
    deliver(plain_producer(settings), garbage)
    (refused,) = append_batches(settings, 1, request_essays=unstored)
    judge = start_worker(command=JUDGE, **BEGINNING)
    (result,) = until(lambda: results_of(settings), 60)
    assert (result.run_id, result.outcome, result.reason) == (refused, "refused", "texts_missing")
    assert {detail.path for detail in result.details} == {"essays.e-0", "essays.e-1"}
    assert judging_of(settings) == {}
    append_batches(settings, 2, first_number=4)
    until(lambda: len(results_of(settings)) == 3, 60)
    assert judge.log_count("not a batch: skipped") == 2
    assert judging_findings(settings) == []


@pytest.mark.thorough
def test_a_first_judge_leaves_older_batches_alone(
    settings: Settings, start_worker: StartWorker
) -> None:
    older = append_batches(settings, 4)
    judge = start_worker(command=JUDGE, judge="simulated/sim-1")
    until(lambda: judge.log_count("fetching from the committed offsets"), 60)
    newer = append_batches(settings, 4, first_number=4)
    until(lambda: len(results_of(settings)) == 4, 60)
    assert sorted(result.run_id for result in results_of(settings)) == sorted(newer)
    assert not set(older) & judging_of(settings).keys()
    assert {(type(one), one.kind) for one in judging_findings(settings)} == {(Note, "not_judged")}


def answers_in(settings: Settings) -> int:
    return sum(
        isinstance(event, CallAnswered)
        for events in judging_of(settings).values()
        for event in events
    )


@pytest.mark.thorough
def test_a_judge_that_is_killed_is_continued_with_its_calls_in_doubt(
    settings: Settings, start_worker: StartWorker
) -> None:
    run_ids = append_batches(settings, 4, essays=12)
    slow = {"simulated_judge": '{"latency_s": 0.4}', **BEGINNING}
    judge = start_worker(command=JUDGE, **slow)
    for answers in (5, 60):
        until(lambda: answers_in(settings) > answers, 60)  # noqa: B023 (called at once)
        judge.kill()
        judge.start()
    until(lambda: len(results_of(settings)) == 4, 120)
    assert sorted(result.run_id for result in results_of(settings)) == sorted(run_ids)
    in_doubt = 0
    for result in results_of(settings):
        run = run_of(settings, result.run_id)
        doubtful = [
            attempt.intent.bound_pusd or 0
            for one in run.comparisons
            for attempt in one.attempts
            if attempt.is_in_doubt
        ]
        in_doubt += len(doubtful)
        assert run.ledger.in_doubt_pusd == sum(doubtful) == result.cost.in_doubt_pusd
    assert 1 <= in_doubt <= 2 * 32  # kills, and calls at a time
    assert judging_findings(settings) == []


@pytest.mark.thorough
def test_a_judge_that_is_stopped_records_the_answers_of_calls_in_flight(
    settings: Settings, start_worker: StartWorker
) -> None:
    append_batches(settings, 3)
    slow = {"simulated_judge": '{"latency_s": 0.3}', **BEGINNING}
    judge = start_worker(command=JUDGE, judge_drain_s=60, **slow)
    until(lambda: answers_in(settings) > 3, 60)
    assert judge.stop(70) == 0
    for run_id in judging_of(settings):
        assert run_of(settings, run_id).open_calls == 0
    judge.start()
    until(lambda: len(results_of(settings)) == 3, 120)
    assert {result.cost.in_doubt_pusd for result in results_of(settings)} == {0}


@pytest.mark.thorough
def test_a_judge_that_is_frozen_and_revived_commits_nothing_of_its_old_partitions(
    settings: Settings, start_worker: StartWorker
) -> None:
    run_ids = append_batches(settings, 4)
    slow = {"simulated_judge": '{"latency_s": 0.4}', "session_timeout_s": 6, **BEGINNING}
    first = start_worker("one", JUDGE, **slow)
    until(lambda: answers_in(settings) > 3, 60)
    first.freeze()
    start_worker("two", JUDGE, **slow)
    until(lambda: len(results_of(settings)) == 4, 120)
    first.thaw()
    more = append_batches(settings, 4, first_number=4)
    until(lambda: len(results_of(settings)) == 8, 120)
    assert sorted(result.run_id for result in results_of(settings)) == sorted([*run_ids, *more])
    for run_id in [*run_ids, *more]:
        assert run_of(settings, run_id).stopped is not None
    assert judging_findings(settings) == []


@pytest.mark.thorough
def test_more_batches_than_may_be_open_wait_in_their_topic_and_none_is_skipped(
    settings: Settings, start_worker: StartWorker
) -> None:
    run_ids = append_batches(settings, 24, essays=2)
    start_worker(command=JUDGE, judge_runs_max=2, **BEGINNING)
    most_open = 0

    def are_all_judged() -> bool:
        nonlocal most_open
        runs = judging_of(settings).values()
        stopped = sum(isinstance(events[-1], JudgingStopped) for events in runs)
        most_open = max(most_open, len(runs) - stopped)
        return len(results_of(settings)) == 24

    until(are_all_judged, 120)
    assert sorted(result.run_id for result in results_of(settings)) == sorted(run_ids)
    assert most_open <= 4  # as many may be open, and as many be fetched


@pytest.mark.thorough
def test_a_judge_with_faults_answers_within_its_budget_and_two_judges_share_the_partitions(
    settings: Settings, start_worker: StartWorker
) -> None:
    run_ids = append_batches(settings, 8)
    faulty = {
        "simulated_judge": '{"latency_s": 0.05, "rate_limited": 0.1, "server_error": 0.1, "garbage": 0.1}',
        "judge_max_cost_usd": 0.01,
        **BEGINNING,
    }
    start_worker("one", JUDGE, **faulty)
    until(lambda: answers_in(settings) > 5, 60)
    start_worker("two", JUDGE, **faulty)  # calls in flight at the rebalance end before it
    until(lambda: len(results_of(settings)) == 8, 180)
    assert sorted(result.run_id for result in results_of(settings)) == sorted(run_ids)
    for result in results_of(settings):
        ledger = run_of(settings, result.run_id).ledger
        assert ledger.committed_pusd <= 10**10
        assert ledger.spent_pusd == result.cost.spent_pusd
        assert (ledger.in_doubt_pusd, result.cost.in_doubt_pusd) == (0, 0)
    reasons = {count.reason for result in results_of(settings) for count in result.counts.failed}
    assert {"rate_limited", "provider_error", "invalid_answer"} <= reasons
    assert judging_findings(settings) == []
