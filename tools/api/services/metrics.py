"""The metrics of the API, in their own registry; every label has a bounded number of values."""

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

ADMIN = "/admin/v1"
AUDIT = "/audit/v1"
RESULTS = "/results/v1/batches"
INSTRUCTIONS = f"{ADMIN}/assessment-instructions"
OF_SCOPE = {"PUT": "upsert", "PATCH": "update", "GET": "get", "DELETE": "delete"}
OPERATIONS = {
    ("POST", INSTRUCTIONS): "upsert",
    ("GET", INSTRUCTIONS): "list",
    **{
        (method, f"{INSTRUCTIONS}/{scope}/{{{scope}_id}}"): operation
        for scope in ("assignment", "course")
        for method, operation in OF_SCOPE.items()
    },
    **{
        (method, f"{ADMIN}/{route}{path}"): f"{name}_{operation}"
        for route, name in (("student-prompts", "prompt"), ("judge-rubrics", "rubric"))
        for method, path, operation in (
            ("POST", "", "upload"),
            ("GET", "/assignment/{assignment_id}", "get"),
            ("DELETE", "/assignment/{assignment_id}", "delete"),
        )
    },
    ("POST", f"{ADMIN}/anchors"): "anchor_upload",
    ("DELETE", f"{ADMIN}/anchors/assignment/{{assignment_id}}/{{anchor_id}}"): "anchor_delete",
    **{
        (method, f"{ADMIN}/anchors/assignment/{{assignment_id}}"): f"anchors_{operation}"
        for method, operation in OF_SCOPE.items()
        if method != "PATCH"
    },
    ("POST", f"{ADMIN}/assignments"): "assignment_upsert",
    ("GET", f"{ADMIN}/assignments/{{assignment_id}}"): "assignment_get",
    ("GET", f"{ADMIN}/assignments/{{assignment_id}}/readiness"): "readiness",
    ("GET", f"{ADMIN}/assignments/{{assignment_id}}/gate"): "gate",
    ("GET", f"{ADMIN}/assignments/{{assignment_id}}/history"): "history",
    ("GET", f"{ADMIN}/grade-scales"): "scales_list",
    ("GET", f"{AUDIT}/scopes/{{scope}}/as-of"): "as_of",
    ("GET", f"{AUDIT}/scopes/{{scope}}/history"): "history",
    **{("GET", f"{AUDIT}/{name}"): name for name in ("replay", "verify")},
    ("GET", f"{AUDIT}/batches"): "batch",
    ("GET", RESULTS): "results_list",
    ("GET", f"{RESULTS}/{{batch_id}}"): "result_get",
    **{
        ("GET", f"{RESULTS}/{{batch_id}}/{name}"): f"result_{name}"
        for name in ("status", "comparisons", "ledger")
    },
}
MAX_PIPELINES = 20  # with a label of their own; the others count as `other`
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
CONTENT = {"POST": "upload", "GET": "download", "HEAD": "head"}


class _Fenced(Collector):
    """A counter whose value is kept by the log."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        """Its current value."""
        description = "writers fenced by another process"
        yield CounterMetricFamily("cj_admin_writer_fenced", description, value=self._count())


class Metrics:
    """The counters and histograms of one API process; `fenced` returns how often its writers were fenced."""

    def __init__(self, fenced: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._operations = counter(
            "cj_admin_instruction_operations",
            "admin and audit operations",
            ("operation", "status"),
        )
        self._requests = counter(
            "cj_admin_http_requests", "HTTP requests", ("method", "route", "status_code")
        )
        self._durations = histogram(
            "cj_admin_http_request_duration_seconds",
            "seconds per HTTP request",
            ("method", "route"),
        )
        self._contents = counter(
            "content_operations", "requests to /v1/content", ("operation", "status")
        )
        self.auth_failures = counter(
            "cj_admin_auth_failures", "requests refused because of their token", ("reason",)
        )
        self.events = counter("cj_admin_events_appended", "events committed", ("event_type",))
        self.append = histogram(
            "cj_admin_append_duration_seconds", "seconds from a write request to its commit"
        )
        self.fold_wait = histogram(
            "cj_admin_fold_wait_seconds", "seconds from a commit until this process has folded it"
        )
        self.fold_late = counter(
            "cj_admin_fold_late", "commits that were not folded within CJSTREAM_FOLD_TIMEOUT_S"
        )
        self.preconditions = counter(
            "cj_admin_precondition_failures", "responses 412 and 428", ("role",)
        )
        self._blocked = counter(
            "huleedu_bcs_prompt_prerequisite_blocked",
            "refusals of the gate: the assignment lacks a text that it needs",
            ("pipeline_name",),
        )
        self._pipelines = set[str]()
        self.registry.register(_Fenced(fenced))

    def count_request(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count one request; `route` is the path template, or `unmatched`."""
        label = method if method in METHODS else "other"
        self._requests.labels(label, route, str(status)).inc()
        self._durations.labels(label, route).observe(took_s)
        if operation := OPERATIONS.get((method, route)):
            self._operations.labels(operation, "success" if status < 400 else "failure").inc()
        if route.startswith("/v1/content") and method in CONTENT:
            self._contents.labels(CONTENT[method], _content_status(status)).inc()

    def count_blocked(self, pipeline: str) -> None:
        """Count a refusal of the gate; only the first pipelines have a label of their own."""
        if len(self._pipelines) < MAX_PIPELINES:
            self._pipelines.add(pipeline)
        self._blocked.labels(pipeline if pipeline in self._pipelines else "other").inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _content_status(status: int) -> str:
    if status < 400:
        return "success"
    if status == 404:
        return "not_found"
    return "failed" if status < 500 else "error"
