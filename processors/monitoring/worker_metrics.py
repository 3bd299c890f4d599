"""The metrics of a worker: what batches brought, counted once per batch, and its state, read at each scrape."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from processors.exactly_once.batch import Batch
from processors.exactly_once.observer import Result, Stage
from processors.monitoring import scraped
from processors.monitoring.lag_watch import Lag, LagWatch
from schemas.coordinates import Partition, Positions
from schemas.errors import BadRecord

BATCH_BUCKETS = (1, 10, 100, 300, 1000, 3000, 10_000, 30_000, 50_000)
STAGE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
KINDS = ("prepared", "unresolved", "dead_letter")
REASONS = tuple(sorted(fault.__name__ for fault in BadRecord.__subclasses__()))


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What a worker is asked at each scrape; every function may be called from any thread."""

    owned: Callable[[], frozenset[Partition]]  # request partitions
    committed: Callable[[], Positions]  # of request partitions
    appended_at_ms: Callable[[], Mapping[Partition, int]]  # of the newest request read
    replica: Callable[[], Positions]
    replica_rows: Callable[[], int]
    stopped_uploads: Callable[[], int]
    fold: Callable[[], Positions]
    parked: Callable[[], int]
    oldest_parked_s: Callable[[], float | None]
    patience_s: int
    open_transaction_s: Callable[[], float]
    rebalances: Callable[[], int]
    blocked: Callable[[], int]
    watchdog_trips: Callable[[], int]
    readiness: Callable[[], Mapping[str, bool]]


@dataclass(slots=True)
class _Offsets:
    """The newest answer of the broker, and the lags that follow from it."""

    stable: Positions = field(default_factory=dict)
    requests: LagWatch = field(default_factory=LagWatch)
    uploads: LagWatch = field(default_factory=LagWatch)
    committed: dict[Partition, int] = field(default_factory=dict)  # known last, also between epochs


class WorkerMetrics:
    """Observes a worker's batches; its gauges exist once it knows the worker's state."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._offsets = _Offsets()
        self._batch = Histogram(
            "cj_worker_batch_requests",
            "requests in one committed batch, those that were released included",
            registry=self.registry,
            buckets=BATCH_BUCKETS,
        )
        stages = Histogram(
            "cj_worker_stage_seconds",
            "seconds of one stage of a batch; fetch includes the wait for its first record",
            ("stage",),
            registry=self.registry,
            buckets=STAGE_BUCKETS,
        )
        outcomes = self._counter("cj_worker_outcomes", "committed outcomes of requests", "kind")
        letters = self._counter(
            "cj_worker_dead_letters", "dead letters by what was wrong", "source", "reason"
        )
        transactions = self._counter("cj_worker_transactions", "transactions of batches", "result")
        self._parked = self._counter("cj_worker_requests_parked", "requests that began to wait")
        self._released = self._counter(
            "cj_worker_requests_released", "requests that waited and have their outcome"
        )
        # with all of their labels from the start: a rate needs a first value
        self._stages = {stage: stages.labels(stage) for stage in get_args(Stage)}
        self._outcomes = {kind: outcomes.labels(kind) for kind in KINDS}
        self._transactions = {result: transactions.labels(result) for result in get_args(Result)}
        self._letters = {
            (source, reason): letters.labels(source, reason)
            for source in ("request", "upload")
            for reason in REASONS
        }

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def took(self, stage: Stage, seconds: float) -> None:
        """Note how long a stage of one batch took."""
        self._stages[stage].observe(seconds)

    def ended(self, batch: Batch, result: Result) -> None:
        """Count a transaction, and what it committed."""
        self._transactions[result].inc()
        if result == "committed":
            kinds = batch.kinds
            self._batch.observe(batch.inputs)
            for kind, count in self._outcomes.items():
                count.inc(kinds.get(kind, 0))
            self._parked.inc(kinds.get("parked", 0))
            self._released.inc(kinds.get("released", 0))
            for reason, number in batch.refusals.items():
                self._letters["request", reason].inc(number)

    def upload_refused(self, fault: BadRecord) -> None:
        """Count the dead letter of an upload."""
        self._letters["upload", type(fault).__name__].inc()

    def observe_offsets(
        self, state: WorkerState, offsets: tuple[Positions, Positions] | None
    ) -> None:
        """Note last stable offsets and high watermarks, once a second; None: no broker answers, the lag is unknown."""
        kept, now_s = self._offsets, time.time()
        owned = state.owned()
        kept.committed = {
            tp: offset
            for tp, offset in {**kept.committed, **state.committed()}.items()
            if tp in owned
        }
        stable, high = offsets or ({}, {})
        kept.stable = stable
        kept.requests.observe(now_s, kept.committed, stable)
        kept.uploads.observe(now_s, state.replica(), high)

    def _lag(self, state: WorkerState) -> Mapping[Partition, Lag]:
        read_until_s = {tp: ms / 1000 for tp, ms in state.appended_at_ms().items()}
        return self._offsets.requests.lags(time.time(), read_until_s)

    def _replica_lag(self) -> Mapping[Partition, Lag]:
        return self._offsets.uploads.lags(time.time(), {})

    def _fold_lag(self, state: WorkerState) -> dict[Partition, int]:
        stable = self._offsets.stable
        return {tp: max(0, stable[tp] - at) for tp, at in state.fold().items() if tp in stable}

    def show(self, state: WorkerState) -> None:
        """Add the gauges of the worker's state."""
        registry, partition, topic_partition = self.registry, ("partition",), ("topic", "partition")
        scraped.gauge(
            registry,
            "cj_worker_lag_records",
            "offsets of each owned request partition that are not committed",
            partition,
            lambda: {(str(tp.partition),): lag.records for tp, lag in self._lag(state).items()},
        )
        scraped.gauge(
            registry,
            "cj_worker_lag_seconds",
            "for how long the oldest uncommitted request has waited",
            partition,
            lambda: {(str(tp.partition),): lag.seconds for tp, lag in self._lag(state).items()},
        )
        scraped.gauge(
            registry,
            "cj_worker_replica_position",
            "the next offset that the replica folds",
            topic_partition,
            lambda: {_labels(tp): offset for tp, offset in state.replica().items()},
        )
        scraped.gauge(
            registry,
            "cj_worker_fold_lag_records",
            "offsets of each owned upload partition that the table's fold has not processed",
            topic_partition,
            lambda: {_labels(tp): lag for tp, lag in self._fold_lag(state).items()},
        )
        for name, text, read in (
            (
                "cj_worker_replica_age_seconds",
                "for how long the replica has lacked an upload; 0: it has all",
                lambda: max((lag.seconds for lag in self._replica_lag().values()), default=None),
            ),
            (
                "cj_worker_replica_rows",
                "rows in the replica's store, estimated",
                state.replica_rows,
            ),
            ("cj_worker_parked_requests", "requests that wait for their context", state.parked),
            (
                "cj_worker_parked_oldest_seconds",
                "since when the oldest request that waits is in the log",
                state.oldest_parked_s,
            ),
            (
                "cj_worker_patience_seconds",
                "CJSTREAM_PATIENCE_S: after it, a request that waits is due",
                lambda: state.patience_s,
            ),
            (
                "cj_worker_open_transaction_seconds",
                "for how long this worker's transaction has been open",
                state.open_transaction_s,
            ),
            (
                "cj_worker_assigned_partitions",
                "request partitions that this worker owns",
                lambda: len(state.owned()),
            ),
            (
                "cj_worker_blocked_partitions",
                "upload and request partitions that an open transaction blocks",
                state.blocked,
            ),
            (
                "cj_worker_stopped_upload_partitions",
                "upload partitions that an upload of a later release has stopped",
                state.stopped_uploads,
            ),
            (
                "cj_worker_ready",
                "1 if /readyz answers 200",
                lambda: int(all(state.readiness().values())),
            ),
        ):
            scraped.value(registry, name, text, read)
        scraped.counter(
            registry,
            "cj_worker_rebalances",
            "assigned or revoked request partitions, as events",
            state.rebalances,
        )
        scraped.counter(
            registry,
            "cj_worker_watchdog_trips",
            "how often a watchdog has ended the worker of this folder",
            state.watchdog_trips,
        )


def _labels(tp: Partition) -> tuple[str, ...]:
    return tp.topic, str(tp.partition)
