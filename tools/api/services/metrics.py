"""The metrics of the API, in their own registry; every label value comes from a closed set."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

ADMIN = "/admin/v1"
AUDIT = "/audit/v1"
INSTRUCTIONS = f"{ADMIN}/assessment-instructions"
OPERATIONS = {
    ("POST", INSTRUCTIONS): "upsert",
    ("GET", INSTRUCTIONS): "list",
    **{
        (method, f"{INSTRUCTIONS}/{scope}"): operation
        for scope in ("assignment/{assignment_id}", "course/{course_id}")
        for method, operation in (
            ("PUT", "upsert"),
            ("PATCH", "update"),
            ("GET", "get"),
            ("DELETE", "delete"),
        )
    },
    ("POST", f"{ADMIN}/student-prompts"): "prompt_upload",
    ("GET", f"{ADMIN}/student-prompts/assignment/{{assignment_id}}"): "prompt_get",
    ("DELETE", f"{ADMIN}/student-prompts/assignment/{{assignment_id}}"): "prompt_delete",
    ("POST", f"{ADMIN}/judge-rubrics"): "rubric_upload",
    ("GET", f"{ADMIN}/judge-rubrics/assignment/{{assignment_id}}"): "rubric_get",
    ("DELETE", f"{ADMIN}/judge-rubrics/assignment/{{assignment_id}}"): "rubric_delete",
    ("POST", f"{ADMIN}/assignments"): "assignment_upsert",
    ("GET", f"{ADMIN}/assignments/{{assignment_id}}"): "assignment_get",
    ("GET", f"{ADMIN}/assignments/{{assignment_id}}/readiness"): "readiness",
    ("GET", f"{ADMIN}/assignments/{{assignment_id}}/history"): "history",
    ("GET", f"{ADMIN}/grade-scales"): "scales_list",
    ("GET", f"{AUDIT}/scopes/{{scope}}/as-of"): "as_of",
    ("GET", f"{AUDIT}/scopes/{{scope}}/history"): "history",
    ("GET", f"{AUDIT}/batches"): "batch",
    ("GET", f"{AUDIT}/replay"): "replay",
    ("GET", f"{AUDIT}/verify"): "verify",
}
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
        registry = self.registry
        self._operations = Counter(
            "cj_admin_instruction_operations",
            "admin and audit operations",
            ("operation", "status"),
            registry=registry,
        )
        self._requests = Counter(
            "cj_admin_http_requests",
            "HTTP requests",
            ("method", "route", "status_code"),
            registry=registry,
        )
        self._durations = Histogram(
            "cj_admin_http_request_duration_seconds",
            "seconds per HTTP request",
            ("method", "route"),
            registry=registry,
        )
        self._contents = Counter(
            "content_operations",
            "requests to /v1/content",
            ("operation", "status"),
            registry=registry,
        )
        self.auth_failures = Counter(
            "cj_admin_auth_failures",
            "requests refused because of their token",
            ("reason",),
            registry=registry,
        )
        self.events = Counter(
            "cj_admin_events_appended", "events committed", ("event_type",), registry=registry
        )
        self.append = Histogram(
            "cj_admin_append_duration_seconds",
            "seconds from a write request to its commit",
            registry=registry,
        )
        self.fold_wait = Histogram(
            "cj_admin_fold_wait_seconds",
            "seconds from a commit until this process has folded it",
            registry=registry,
        )
        self.fold_late = Counter(
            "cj_admin_fold_late",
            "commits that were not folded within CJSTREAM_FOLD_TIMEOUT_S",
            registry=registry,
        )
        self.registry.register(_Fenced(fenced))
        self.preconditions = Counter(
            "cj_admin_precondition_failures", "responses 412 and 428", ("role",), registry=registry
        )

    def count_request(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count one request; `route` is the path template, or `unmatched`."""
        label = method if method in METHODS else "other"
        self._requests.labels(label, route, str(status)).inc()
        self._durations.labels(label, route).observe(took_s)
        if operation := OPERATIONS.get((method, route)):
            self._operations.labels(operation, "success" if status < 400 else "failure").inc()
        if route.startswith("/v1/content") and method in CONTENT:
            self._contents.labels(CONTENT[method], _content_status(status)).inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _content_status(status: int) -> str:
    if status < 400:
        return "success"
    if status == 404:
        return "not_found"
    return "failed" if status < 500 else "error"
