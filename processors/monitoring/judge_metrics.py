"""The metrics of a judge process: committed calls and results, and its state, read at each scrape."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from processors.judging.endpoints import Endpoint
from processors.judging.judges.judge import Reason
from processors.judging.judges.simulated import PROVIDER as SIMULATED
from processors.judging.observer import CommittedCall, CommittedResult
from processors.monitoring import scraped
from schemas.judging_events import CallFailed
from schemas.models import PUSD_PER_USD

ANSWERED = "answered"
OTHER = "other"
REASONS = {  # of results, by outcome
    "complete": ("reliable",),
    "partial": ("budget", "comparisons", "deadline", "exhausted", "unreachable"),
    "failed": ("no_signal", "provider_failing", "provider_refused", "too_few_answers"),
    "refused": (
        "anchors_named_as_essays",
        "essays_repeated",
        "guests_refused",
        "judge_unknown",
        "overrides_refused",
        "price_unknown",
        "texts_missing",
        "texts_too_long",
        "texts_unreadable",
        "too_many_items",
    ),
}
TOKEN_CLASSES = ("input", "cache_write", "cache_read", "output", "reasoning")
CYCLE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
CALL_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300)
RUN_BUCKETS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
BOUND_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
COMPARISON_BUCKETS = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000)


@dataclass(frozen=True, slots=True)
class JudgeState:
    """What a judge process is asked at each scrape; every function may be called from any thread."""

    open_runs: Callable[[], int]
    endpoints: Callable[[], Mapping[tuple[str, str], Endpoint]]  # by provider and model


class JudgeMetrics:
    """Observes a judge process; judges: provider and model of those that it can ask, the only such labels."""

    def __init__(self, judges: Collection[tuple[str, str]]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        runs = self._counter("cj_judging_runs", "batches with a result", "outcome", "reason")
        self._runs = {
            (outcome, reason): runs.labels(outcome, reason)
            for outcome, reasons in REASONS.items()
            for reason in (*reasons, OTHER)
        }
        self._seconds = self._histogram(
            "cj_judging_seconds", "seconds from a run's start to its result", RUN_BUCKETS
        )
        self._bound = self._histogram(
            "cj_judging_bound", "the bound of r2 that results claim", BOUND_BUCKETS
        )
        self._comparisons = self._histogram(
            "cj_judging_comparisons", "comparisons of one run", COMPARISON_BUCKETS
        )
        self._cycles = self._histogram(
            "cj_judging_cycle_seconds", "seconds of one cycle behind its fetch", CYCLE_BUCKETS
        )
        calls = self._counter(
            "cj_judge_calls", "calls with a committed outcome", "provider", "model", "result"
        )
        call_seconds = self._histogram(
            "cj_judge_call_seconds", "seconds of one call", CALL_BUCKETS, "provider", "model"
        )
        tokens = self._counter("cj_judge_tokens", "tokens of calls", "class")
        cost = self._counter("cj_judge_cost_usd", "US dollars, as far as prices are known", "kind")
        self._calls = {
            (*name, result): calls.labels(*name, result)
            for name in judges
            for result in (ANSWERED, *get_args(Reason))
        }
        self._call_seconds = {name: call_seconds.labels(*name) for name in judges}
        self._tokens = {name: tokens.labels(name) for name in TOKEN_CLASSES}
        self._cost = {kind: cost.labels(kind) for kind in ("spent", "in_doubt", "simulated")}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: Collection[float], *labels: str
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=tuple(buckets))

    def cycle_took(self, seconds: float) -> None:
        """Note how long a cycle took, without its wait for records."""
        self._cycles.observe(seconds)

    def committed_call(self, call: CommittedCall) -> None:
        """Count the outcome of a call, its tokens and its cost."""
        record, name = call.record, (call.provider, call.model)
        result = record.reason if isinstance(record, CallFailed) else ANSWERED
        self._calls[*name, result].inc()
        self._call_seconds[name].observe(record.took_ms / 1000)
        if record.usage is not None:
            for token_class, count in self._tokens.items():
                count.inc(getattr(record.usage, token_class))
        if record.cost_pusd is not None:
            kind = "simulated" if call.provider == SIMULATED else "spent"
            self._cost[kind].inc(record.cost_pusd / PUSD_PER_USD)

    def committed_result(self, committed: CommittedResult) -> None:
        """Count a result, and what its run took."""
        result = committed.result
        self._runs.get((result.outcome, result.reason), self._runs[result.outcome, OTHER]).inc()
        if committed.seconds is None:
            return
        self._seconds.observe(committed.seconds)
        self._comparisons.observe(result.counts.comparisons)
        if result.reliability is not None:
            self._bound.observe(result.reliability.bound)
        if committed.provider != SIMULATED:
            self._cost["in_doubt"].inc((result.cost.in_doubt_pusd or 0) / PUSD_PER_USD)

    def show(self, state: JudgeState) -> None:
        """Add the gauges of the process's state."""
        scraped.value(
            self.registry, "cj_judging_runs_open", "runs without a result", state.open_runs
        )
        for name, text, read in (
            ("cj_judge_calls_in_flight", "calls that have a slot", lambda one: one.in_flight),
            (
                "cj_judge_concurrency_limit",
                "how many calls the process sends at a time, as it has learned it",
                lambda one: one.limit,
            ),
        ):
            scraped.gauge(
                self.registry,
                name,
                text,
                ("provider", "model"),
                _each(state.endpoints, read),
            )


def _each(
    endpoints: Callable[[], Mapping[tuple[str, str], Endpoint]], read: Callable[[Endpoint], int]
) -> scraped.Read:
    return lambda: {name: read(one) for name, one in endpoints().items()}
