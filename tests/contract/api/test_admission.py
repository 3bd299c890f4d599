"""The checks and the middleware before every endpoint: order of checks, correlation, CORS, metrics and log lines."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import pytest

from tests.contract.api.calling import (
    A1,
    ADMIN,
    CORRELATION,
    INSTRUCTIONS,
    TEXT,
    Api,
    make_api,
    new,
)
from tests.support.tokens import hs256
from tools.api.middleware import common_log_fields
from tools.logs import JsonLines

BIG = b"{" + b" " * 2_000_000
ORDER: list[
    tuple[int, dict[str, Any]]
] = [  # each request has this fault and all later ones in the list
    (404, {"method": "PUT", "path": "/nope"}),
    (405, {"method": "PUT", "path": INSTRUCTIONS}),
    (401, {"token": None}),
    (403, {"token": hs256(roles=["service"])}),
    (429, {}),
    (415, {"content_type": "text/plain"}),
    (413, {"content": BIG}),
    (400, {"content": b"{"}),
    (400, {"content": b"{}", "If_Match": "no etag"}),
    (422, {"content": b"{}"}),
    (503, {"body": new()}),
]
WORST = {"method": "POST", "path": f"{INSTRUCTIONS}?x=1", "content": BIG, "If_Match": "no etag"}


@pytest.mark.parametrize("index", range(len(ORDER) - 1))
def test_the_first_check_that_fails_determines_the_response(index: int, tmp_path: Path) -> None:
    status, fault = ORDER[index]
    api = make_api(tmp_path, rate_limit_per_minute=1 if status == 429 else 0)
    request = {**WORST, "token": None, "content_type": "text/plain"}
    for earlier, change in ORDER[:index]:  # pass the earlier checks
        request |= {"token": ""} if earlier in (401, 403) else {}
        request |= {"content_type": "application/json"} if earlier == 415 else {}
        request |= {"content": b"{"} if earlier == 413 else {}
        request |= {"content": b"{}"} if change.get("content") == b"{" else {}
        if "If_Match" in change:
            del request["If_Match"]
    if status == 429:
        api("GET", A1)
    response = api(**{**request, **fault})
    assert response.status_code == status, response.text


def test_log_and_store_are_not_used_before_all_values_are_valid(api: Api) -> None:
    api.log.faults = [AssertionError("the log was used")]
    assert api("POST", INSTRUCTIONS, new(grade_scale="none")).status_code == 422
    assert list((api.folder / "content").rglob("*")) == []


def test_a_write_that_cannot_succeed_stores_nothing(api: Api) -> None:
    body = {"assignment_id": "a1", "prompt_text": TEXT}
    assert api("POST", f"{ADMIN}/student-prompts", body).status_code == 404
    assert [path for path in (api.folder / "content").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("header", "parameter", "expected"),
    [
        (CORRELATION, None, CORRELATION),
        (CORRELATION.upper(), "other", CORRELATION.upper()),
        (None, CORRELATION, CORRELATION),
        ("order 66", None, str(uuid5(NAMESPACE_OID, "order 66"))),
        ("x" * 200, None, str(uuid5(NAMESPACE_OID, "x" * 200))),
        ("x" * 201, CORRELATION, CORRELATION),
        ("tab\there", "order 66", str(uuid5(NAMESPACE_OID, "order 66"))),
        ("x" * 201, None, None),
        (None, None, None),
    ],
)
def test_every_response_has_a_correlation_id(
    api: Api, header: str | None, parameter: str | None, expected: str | None
) -> None:
    headers = {} if header is None else {"X_Correlation_ID": header}
    query = "" if parameter is None else f"?correlation_id={parameter}"
    response = api("GET", f"{A1}{query}", **headers)
    correlation_id = response.headers["x-correlation-id"]
    assert response.json()["correlation_id"] == correlation_id
    assert correlation_id == expected if expected else UUID(correlation_id).version == 4
    for other in ("/nope", "/healthz", f"{ADMIN}/grade-scales"):
        assert UUID(api("GET", other, token=None).headers["x-correlation-id"])


def log_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The log lines as they would be written to stderr."""
    formatter = JsonLines(common_log_fields("development"))
    records = (record for record in caplog.records if record.name.startswith("cjstream"))
    return [json.loads(formatter.format(record)) for record in records]


def test_a_write_is_logged_and_counted_without_its_text(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    api("POST", INSTRUCTIONS, new(), traceparent=trace, X_Correlation_ID="order 66")
    api("POST", INSTRUCTIONS, new())
    api("DELETE", A1, If_Match='"5-5"')
    api("DELETE", A1)
    lines = log_lines(caplog)
    events = [line["event"] for line in lines]
    assert events == [
        *("text stored", "role uploaded", "HTTP request"),
        *("text stored", "write changes nothing", "HTTP request"),
        *("precondition failed", "HTTP request"),
        *("role deleted", "HTTP request"),
    ]
    assert {lines[number]["role"] for number in (1, 4, 6, 8)} == {"instructions"}
    request = lines[2]
    assert request["route"] == INSTRUCTIONS
    assert (request["method"], request["status"], request["actor"]) == ("POST", 200, "anna")
    assert request["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert request["correlation_id_original"] == "order 66"
    assert lines[7]["problem"] == "version-mismatch"
    assert lines[7]["route"] == f"{INSTRUCTIONS}/assignment/{{assignment_id}}"
    assert lines[1]["source"] == "assessment.instructions.v1/3@0"
    assert {line["service"] for line in lines} == {"cjstream-api"}
    assert TEXT not in caplog.text
    assert api.metric("cj_admin_events_appended_total", event_type="InstructionsUploaded") == 1
    of_delete = {"operation": "delete"}
    name = "cj_admin_instruction_operations_total"
    assert api.metric(name, **of_delete, status="failure") == 1
    assert api.metric(name, **of_delete, status="success") == 1
    assert api.metric("cj_admin_append_duration_seconds_count") == 3


def test_every_request_is_counted_once_under_its_path_template(api: Api) -> None:
    api("GET", A1, token=None)
    api("GET", "/nope/xyzzy")
    api("BREW", "/nope")
    route = f"{INSTRUCTIONS}/assignment/{{assignment_id}}"
    name = "cj_admin_http_requests_total"
    assert api.metric(name, method="GET", route=route, status_code="401") == 1
    assert api.metric(name, method="GET", route="unmatched", status_code="404") == 1
    assert api.metric(name, method="other", route="unmatched", status_code="404") == 1
    get = {"operation": "get", "status": "failure"}
    assert api.metric("cj_admin_instruction_operations_total", **get) == 1
    assert "xyzzy" not in api("GET", "/metrics").text


def test_content_operations_are_counted_by_their_result(api: Api) -> None:
    storage_id = api("POST", "/v1/content", content=b"0123456789").json()["storage_id"]
    api("GET", f"/v1/content/{storage_id}")
    api("HEAD", f"/v1/content/{storage_id}")
    api("GET", f"/v1/content/{'0' * 64}")
    api("POST", "/v1/content", content=b"")
    for operation, status in (
        *(("upload", "success"), ("download", "success"), ("head", "success")),
        *(("download", "not_found"), ("upload", "failed")),
    ):
        labels = {"operation": operation, "status": status}
        assert api.metric("content_operations_total", **labels) == 1, labels


def test_monitoring_needs_no_token(api: Api) -> None:
    assert api("GET", "/healthz", token=None).json() == {"status": "ok"}
    assert api("GET", "/metrics", token=None).status_code == 200
    ready = api("GET", "/readyz", token=None)
    checks = dict.fromkeys(("keys", "content", "replica", "kafka"), True)
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "checks": checks})
    api.log.checks["replica"] = False
    not_ready = api("GET", "/readyz", token=None)
    assert (not_ready.status_code, not_ready.json()["checks"]["replica"]) == (503, False)


def test_metrics_can_have_a_separate_port(tmp_path: Path) -> None:
    api = make_api(tmp_path, metrics_port=9999)
    assert api("GET", "/metrics").status_code == 404


def test_cors_is_off_unless_origins_are_listed(tmp_path: Path) -> None:
    origin, method = "https://admin.example", {"Access_Control_Request_Method": "PUT"}
    without = make_api(tmp_path / "one")
    assert without("OPTIONS", A1, Origin=origin, **method).status_code == 405
    assert "access-control-allow-origin" not in without("GET", A1, Origin=origin).headers
    api = make_api(tmp_path / "two", cors_origins=(origin,))
    preflight = api("OPTIONS", A1, token=None, Origin=origin, **method)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    headers = api("GET", A1, Origin=origin).headers
    assert "etag" in headers["access-control-expose-headers"].lower()
    other = api("GET", A1, Origin="https://other.example").headers
    assert "access-control-allow-origin" not in other


def test_the_registry_has_its_own_error_format_and_can_require_a_token(tmp_path: Path) -> None:
    api = make_api(tmp_path / "one")
    assert api("GET", "/registry/subjects", token=None).status_code == 200
    protected = make_api(tmp_path / "two", registry_auth=True)
    refused = protected("GET", "/registry/subjects", token=None)
    assert (refused.status_code, refused.json()["error_code"]) == (401, 401)
    assert protected("GET", "/registry/subjects", token=hs256(roles=[])).status_code == 200
    external = make_api(tmp_path / "three", schema_registry_url="http://registry:8081")
    assert external("GET", "/registry/subjects").json()["type"].endswith("route-not-found")


def test_concurrent_requests_keep_their_own_correlation_ids(api: Api) -> None:
    async def concurrent() -> list[str]:
        calls = [
            api.call("GET", A1, None, None, {"x-correlation-id": f"{n:08}{CORRELATION[8:]}"})
            for n in range(8)
        ]
        return [response.json()["correlation_id"][:8] for response in await asyncio.gather(*calls)]

    assert asyncio.run(concurrent()) == [f"{n:08}" for n in range(8)]


def test_a_large_body_does_not_stop_other_requests_while_it_is_parsed(api: Api) -> None:
    body = b"[" + b",".join([b"{}"] * 340_000) + b"]"
    headers = {"authorization": f"Bearer {hs256()}", "content-type": "application/json"}

    async def ticks_during_post() -> int:
        loop, ticks = asyncio.get_running_loop(), 0

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            loop.call_later(0.001, tick)

        tick()
        response = await api.call("POST", INSTRUCTIONS, None, body, headers)
        assert response.status_code == 422
        return ticks

    assert asyncio.run(ticks_during_post()) > 4  # 1 if it is parsed in the event loop
