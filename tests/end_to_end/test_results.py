"""`cjstream results` on a real broker: what was judged is listed, shown, explained and consumed once."""

import json

import pytest

from processors.settings import Settings
from schemas.events import Essay
from tests.faults.running import StartWorker
from tests.support.builders import sha256_of
from tests.support.judged_batches import JUDGE, append_batches, judging_of, results_of
from tests.support.run_command import run_json, run_text
from tests.support.until import until

BEGINNING = {"judge": "simulated/sim-1", "judge_first_start": "beginning"}


@pytest.mark.thorough
def test_results_are_listed_shown_explained_and_each_consumed_once(
    settings: Settings, start_worker: StartWorker
) -> None:
    run_ids = append_batches(settings, 3)
    unstored = tuple(Essay(essay_id=f"e-{n}", text_storage_id=sha256_of(f"{n}")) for n in (0, 1))
    append_batches(settings, 1, first_number=3, request_essays=unstored)
    judge = start_worker(command=JUDGE, **BEGINNING)
    until(lambda: len(results_of(settings)) == 4, 60)
    by_batch = {result.batch_id: result for result in results_of(settings)}

    exit_code, listed, _ = run_json(settings, "results", "list")
    assert (exit_code, listed["judging"]) == (0, [])
    assert {one["batch_id"] for one in listed["results"]} == set(by_batch)
    times = [one["judged_at"] for one in listed["results"]]
    assert times == sorted(times, reverse=True)
    assert len(run_json(settings, "results", "list", "--limit", "2")[1]["results"]) == 2
    assert run_json(settings, "results", "list", "--assignment", "other")[1]["results"] == []

    exit_code, shown, _ = run_json(settings, "results", "show", "batch-1")
    result = by_batch["batch-1"]
    assert (exit_code, shown["run_id"], shown["outcome"]) == (0, run_ids[1], result.outcome)
    assert int(shown["cost"]["spent_usd"].replace(".", "")) == result.cost.spent_pusd
    assert [one["theta"] for one in shown["essays"]] == [one.theta for one in result.essays]
    exit_code, table, _ = run_text(settings, "results", "show", "batch-1")
    assert exit_code == 0
    best = min(result.essays, key=lambda essay: essay.rank or 99)
    assert f"{best.rank_low}-{best.rank_high}" in table
    assert "-o-" in table

    exit_code, refused, _ = run_json(settings, "results", "show", "batch-3")
    assert (refused["outcome"], refused["reason"]) == ("refused", "texts_missing")
    assert run_text(settings, "results", "explain", "batch-3", "e-0")[0] == 3

    exit_code, explained, _ = run_json(settings, "results", "explain", "batch-1", "e-2")
    assert exit_code == 0
    score = next(essay for essay in result.essays if essay.essay_id == "e-2")
    compared = [one for one in explained["comparisons"] if one["won"] is not None]
    assert len(compared) == score.comparisons
    assert sum(one["shown"] == "first" for one in compared) == score.shown_first
    for one in compared:
        assert one["residual"] == pytest.approx(one["won"] - one["expected"], abs=2e-6)
    assert explained["score"]["theta"] == score.theta
    assert "residual" in run_text(settings, "results", "explain", "batch-1", "e-2")[1]
    exit_code, _, stderr = run_text(settings, "results", "explain", "batch-1", "e-99")
    assert (exit_code, "no essay or anchor e-99" in stderr) == (3, True)

    exit_code, tailed, _ = run_json(settings, "results", "tail")
    assert sorted(one["run_id"] for one in tailed["results"]) == sorted(
        one.run_id for one in by_batch.values()
    )
    assert run_json(settings, "results", "tail")[1]["results"] == []
    assert len(run_json(settings, "results", "tail", "--group", "another")[1]["results"]) == 4
    append_batches(settings, 1, first_number=4)
    until(lambda: len(results_of(settings)) == 5, 60)
    (newest,) = run_json(settings, "results", "tail")[1]["results"]
    assert newest["batch_id"] == "batch-4"
    assert judge.stop() == 0


@pytest.mark.thorough
def test_a_batch_that_is_being_judged_is_listed_with_its_progress(
    settings: Settings, start_worker: StartWorker
) -> None:
    append_batches(settings, 1, essays=12)
    start_worker(command=JUDGE, simulated_judge=json.dumps({"latency_s": 0.5}), **BEGINNING)
    until(lambda: any(len(events) > 6 for events in judging_of(settings).values()), 60)
    (judging,) = run_json(settings, "results", "list")[1]["judging"]
    assert (judging["batch_id"], judging["essays"]) == ("batch-0", 12)
    assert judging["waves"] >= 1
    exit_code, _, stderr = run_text(settings, "results", "show", "batch-0")
    assert (exit_code, "is being judged" in stderr) == (3, True)
    exit_code, explained, _ = run_json(settings, "results", "explain", "batch-0", "e-0")
    assert (exit_code, explained["outcome"]) == (0, "judging")
    assert explained["comparisons"]
    exit_code, _, stderr = run_text(settings, "results", "show", "unknown")
    assert (exit_code, "neither a result nor an open run" in stderr) == (3, True)
