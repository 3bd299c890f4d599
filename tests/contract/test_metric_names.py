"""The metrics of every process kind: a closed list, which the dashboards and rules of others rest on."""

from itertools import chain

import pytest
from prometheus_client import CollectorRegistry

from processors.monitoring.judge_metrics import REASONS, JudgeMetrics, JudgeState
from processors.monitoring.worker_metrics import WorkerMetrics
from tools.api.services.metrics import Metrics
from tools.reference.pages import IDLE_WORKER

WORKER = {
    "cj_worker_assigned_partitions",
    "cj_worker_batch_requests",
    "cj_worker_blocked_partitions",
    "cj_worker_dead_letters",
    "cj_worker_fold_lag_records",
    "cj_worker_lag_records",
    "cj_worker_lag_seconds",
    "cj_worker_open_transaction_seconds",
    "cj_worker_outcomes",
    "cj_worker_parked_oldest_seconds",
    "cj_worker_parked_requests",
    "cj_worker_patience_seconds",
    "cj_worker_ready",
    "cj_worker_rebalances",
    "cj_worker_replica_age_seconds",
    "cj_worker_replica_position",
    "cj_worker_replica_rows",
    "cj_worker_requests_parked",
    "cj_worker_requests_released",
    "cj_worker_stage_seconds",
    "cj_worker_stopped_upload_partitions",
    "cj_worker_transactions",
    "cj_worker_watchdog_trips",
}
JUDGE = {
    "cj_judge_call_seconds",
    "cj_judge_calls",
    "cj_judge_calls_in_flight",
    "cj_judge_concurrency_limit",
    "cj_judge_cost_usd",
    "cj_judge_tokens",
    "cj_judging_bound",
    "cj_judging_comparisons",
    "cj_judging_cycle_seconds",
    "cj_judging_runs",
    "cj_judging_runs_open",
    "cj_judging_seconds",
}
LABELS = {
    "class": {"input", "cache_write", "cache_read", "output", "reasoning"},
    "kind": {"prepared", "unresolved", "dead_letter", "spent", "in_doubt", "simulated"},
    "model": {"sim-1"},
    "provider": {"simulated"},
    "outcome": {"complete", "partial", "failed", "refused"},
    "reason": {"Malformed", "UnknownSchema", "other", *chain.from_iterable(REASONS.values())},
    "source": {"request", "upload"},
    "stage": {"fetch", "wait_for_uploads", "prepare", "produce", "commit"},
}


@pytest.fixture
def worker() -> CollectorRegistry:
    metrics = WorkerMetrics()
    metrics.show(IDLE_WORKER)
    return metrics.registry


@pytest.fixture
def judge() -> CollectorRegistry:
    metrics = JudgeMetrics([("simulated", "sim-1")])
    metrics.show(JudgeState(int, dict))
    return metrics.registry


def names_in(registry: CollectorRegistry) -> set[str]:
    """The names of our metrics; every Python process has some more."""
    return {one.name for one in registry.collect() if not one.name.startswith("process_")}


def test_a_worker_has_exactly_these_metrics(worker: CollectorRegistry) -> None:
    assert names_in(worker) == WORKER


def test_a_judge_has_exactly_these_metrics(judge: CollectorRegistry) -> None:
    assert names_in(judge) == JUDGE


def test_labels_have_a_closed_set_of_values_all_there_from_the_start(
    worker: CollectorRegistry, judge: CollectorRegistry
) -> None:
    found = dict[str, set[str]]()
    for registry in (worker, judge):
        for family in registry.collect():
            for sample in family.samples:
                for name, value in sample.labels.items():
                    found.setdefault(name, set()).add(value)
    results = {"committed", "aborted", "fenced", "answered"}
    assert results < found.pop("result")  # and why calls fail
    del found["le"]  # the bucket of a histogram
    assert found == LABELS


def test_every_metric_says_what_it_is(worker: CollectorRegistry, judge: CollectorRegistry) -> None:
    api = Metrics(lambda: 0).registry
    texts = [one.documentation for registry in (worker, judge, api) for one in registry.collect()]
    assert all(texts)
    assert not set(names_in(api)) & (WORKER | JUDGE)
