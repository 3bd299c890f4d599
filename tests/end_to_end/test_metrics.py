"""The metrics and the health of running processes."""

from collections.abc import Callable
from functools import partial

import pytest

from processors.settings import Settings
from schemas.models import PUSD_PER_USD
from tests.faults.load import DAMAGED, append, record_of, request_record, send
from tests.faults.running import StartWorker
from tests.support.builders import instructions_uploaded, prompt_uploaded, requested
from tests.support.judged_batches import JUDGE, append_batches, results_of
from tests.support.scraping import Scraped
from tests.support.until import until
from tools.broker import free_port


def wait_for(condition: Callable[[], bool]) -> None:
    until(condition, 60)


def has_value(scraped: Scraped, name: str, value: float) -> bool:
    return scraped.value(name) == value


@pytest.mark.thorough
def test_a_worker_shows_what_it_does(settings: Settings, start_worker: StartWorker) -> None:
    address = f"127.0.0.1:{free_port()}"
    worker = start_worker("one", worker_metrics_address=address, patience_s=600)
    scraped = Scraped(address)
    scraped.wait_until_ready()
    send(settings, instructions_uploaded(), prompt_uploaded("Compare."))
    send(settings, requested())
    append(settings, [record_of(settings, requested(assignment_id="later", batch_id="b-2"))])
    append(settings, [request_record(settings, DAMAGED[1], "damaged")])
    wait_for(lambda: scraped.value("cj_worker_outcomes_total") == 2)
    wait_for(lambda: scraped.value("cj_worker_parked_requests") == 1)
    assert scraped.value("cj_worker_outcomes_total", kind="prepared") == 1
    assert scraped.value("cj_worker_requests_parked_total") == 1
    assert scraped.value("cj_worker_dead_letters_total", source="request", reason="Malformed") == 1
    wait_for(lambda: 0 < scraped.value("cj_worker_parked_oldest_seconds") < 600)
    assert scraped.value("cj_worker_assigned_partitions") == settings.partitions
    # two uploads with a marker each at most: the rows are known, the fold and the replica have all
    wait_for(lambda: scraped.value("cj_worker_replica_rows") >= 2)
    wait_for(lambda: "cj_worker_fold_lag_records" in scraped.samples())
    for name in ("lag_records", "lag_seconds", "fold_lag_records", "replica_age_seconds"):
        wait_for(partial(has_value, scraped, f"cj_worker_{name}", 0))
    for stage in ("fetch", "wait_for_uploads", "prepare", "produce", "commit"):
        assert scraped.value("cj_worker_stage_seconds_count", stage=stage) >= 1
    send(
        settings,
        instructions_uploaded(assignment_id="later", event_id="l-1"),
        prompt_uploaded("Later.", assignment_id="later", event_id="l-2"),
    )
    wait_for(lambda: scraped.value("cj_worker_requests_released_total") == 1)
    assert worker.stop() == 0


@pytest.mark.thorough
def test_a_judge_shows_what_it_does(settings: Settings, start_worker: StartWorker) -> None:
    address = f"127.0.0.1:{free_port()}"
    beginning = {"judge": "simulated/sim-1", "judge_first_start": "beginning"}
    judge = start_worker("judge", JUDGE, judge_metrics_address=address, **beginning)
    scraped = Scraped(address)
    scraped.wait_until_ready()
    append_batches(settings, 2, 4)
    wait_for(lambda: scraped.value("cj_judging_runs_total") == 2)
    results = results_of(settings)
    calls = sum(result.counts.calls for result in results)
    answered = sum(result.counts.answered for result in results)
    values = scraped.samples()
    assert scraped.value("cj_judge_calls_total") == calls
    assert (
        scraped.value("cj_judge_calls_total", provider="simulated", result="answered") == answered
    )
    assert scraped.value("cj_judge_call_seconds_count", model="sim-1") == calls
    assert scraped.value("cj_judging_comparisons_sum") == sum(
        result.counts.comparisons for result in results
    )
    spent = sum(result.cost.spent_pusd or 0 for result in results) / PUSD_PER_USD
    assert scraped.value("cj_judge_cost_usd_total", kind="simulated") == pytest.approx(spent)
    assert scraped.value("cj_judge_cost_usd_total", kind="spent") == 0
    tokens = sum(result.cost.tokens.output for result in results)
    assert {"class": "output"} in [labels for labels, _ in values["cj_judge_tokens_total"]]
    assert scraped.value("cj_judge_tokens_total", **{"class": "output"}) == tokens
    assert scraped.value("cj_judging_runs_open") == scraped.value("cj_judge_calls_in_flight") == 0
    assert scraped.value("cj_judge_concurrency_limit") > 0
    assert scraped.value("cj_judging_cycle_seconds_count") > 0
    assert judge.stop() == 0
