"""What a worker counts, and under which names."""

from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry

from processors.exactly_once.batch import Batch
from processors.monitoring.scraped import gauge
from processors.monitoring.worker_metrics import WorkerMetrics, WorkerState
from schemas.coordinates import Partition
from schemas.errors import Malformed, StoreFailed, UnknownSchema

OWNED = Partition("requests", 1)
UPLOADS = Partition("uploads", 0)
STATE = WorkerState(
    owned=lambda: frozenset({OWNED}),
    committed=lambda: {OWNED: 7},
    appended_at_ms=lambda: {OWNED: 1000},
    replica=lambda: {UPLOADS: 5},
    replica_rows=lambda: 3,
    stopped_uploads=lambda: 1,
    fold=lambda: {UPLOADS: 4},
    parked=lambda: 2,
    oldest_parked_s=lambda: None,
    patience_s=900,
    open_transaction_s=lambda: 0.5,
    rebalances=lambda: 4,
    blocked=lambda: 0,
    watchdog_trips=lambda: 6,
    readiness=lambda: {"broker": True, "group": False},
)
BATCH = Batch(
    (),
    7,
    {},
    {},
    b"",
    0,
    kinds={"prepared": 3, "unresolved": 1, "dead_letter": 2, "parked": 1, "released": 2},
    refusals={"Malformed": 2},
)


def values_of(metrics: WorkerMetrics) -> Mapping[str, float]:
    """The values of the samples, each under its name with the values of its labels."""
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }


@pytest.fixture
def metrics() -> WorkerMetrics:
    metrics = WorkerMetrics()
    metrics.show(STATE)
    return metrics


def test_only_a_committed_batch_counts_as_outcomes(metrics: WorkerMetrics) -> None:
    metrics.ended(BATCH, "aborted")
    metrics.ended(BATCH, "fenced")
    metrics.ended(BATCH, "committed")
    values = values_of(metrics)
    assert [values[f"cj_worker_outcomes_total {kind}"] for kind in ("prepared", "unresolved")] == [
        3,
        1,
    ]
    assert values["cj_worker_outcomes_total dead_letter"] == 2
    assert values["cj_worker_requests_parked_total"] == 1
    assert values["cj_worker_requests_released_total"] == 2
    assert values["cj_worker_dead_letters_total request Malformed"] == 2
    assert values["cj_worker_batch_requests_sum"] == 7
    results = ("committed", "aborted", "fenced")
    assert [values[f"cj_worker_transactions_total {result}"] for result in results] == [1, 1, 1]


def test_uploads_are_refused_by_reason(metrics: WorkerMetrics) -> None:
    metrics.upload_refused(Malformed("x"))
    metrics.upload_refused(UnknownSchema("y"))
    values = values_of(metrics)
    assert values["cj_worker_dead_letters_total upload Malformed"] == 1
    assert values["cj_worker_dead_letters_total upload UnknownSchema"] == 1


def test_the_state_is_read_at_each_scrape(metrics: WorkerMetrics) -> None:
    metrics.observe_offsets(STATE, ({OWNED: 10, UPLOADS: 6}, {OWNED: 12, UPLOADS: 9}))
    values = values_of(metrics)
    assert values["cj_worker_lag_records 1"] == 3
    assert values["cj_worker_fold_lag_records uploads 0"] == 2
    assert values["cj_worker_replica_position uploads 0"] == 5
    assert values["cj_worker_replica_rows"] == 3
    assert values["cj_worker_assigned_partitions"] == 1
    assert values["cj_worker_stopped_upload_partitions"] == 1
    assert values["cj_worker_open_transaction_seconds"] == 0.5
    assert values["cj_worker_rebalances_total"] == 4
    assert values["cj_worker_watchdog_trips_total"] == 6
    assert values["cj_worker_ready"] == 0
    assert "cj_worker_parked_oldest_seconds" not in values  # nothing is parked


def test_without_a_broker_the_lag_is_unknown_and_not_zero(metrics: WorkerMetrics) -> None:
    metrics.observe_offsets(STATE, ({OWNED: 10}, {OWNED: 10}))
    metrics.observe_offsets(STATE, None)
    assert "cj_worker_lag_records 1" not in values_of(metrics)


def test_a_value_that_cannot_be_read_leaves_the_others() -> None:
    registry = CollectorRegistry()

    def closed() -> Mapping[tuple[str, ...], float]:
        raise StoreFailed("replica", ValueError())

    gauge(registry, "first", "of a closed store", (), closed)
    gauge(registry, "second", "of an open one", (), lambda: {(): 2})
    assert [sample.value for family in registry.collect() for sample in family.samples] == [2]
