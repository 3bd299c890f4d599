"""Responses and log lines that say what was the cause."""

import logging
import re

import pytest

from tests.contract.api.calling import A1, ADMIN, INSTRUCTIONS, Api, make_api, new


@pytest.mark.parametrize("tags", ['W/"1-0"', 'W/"1-0", W/"2-1"'])
def test_a_weak_tag_is_named_as_the_reason(api: Api, tags: str) -> None:
    api.create_assignment()
    refused = api("PATCH", A1, {"grade_scale": "swedish_8_anchor"}, if_match=tags)
    assert (refused.status_code, refused.json()["current_version"]) == (412, 1)
    assert "weak etag" in refused.json()["detail"]
    assert refused.headers["etag"]
    other = api("PATCH", A1, {}, if_match='"9-9"').json()["detail"]
    assert "weak" not in other


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_a_health_route_answers_head(api: Api, path: str) -> None:
    assert api("HEAD", path, token=None).status_code == api("GET", path, token=None).status_code


def test_log_lines_of_requests_and_refusals_have_the_clients_address(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "cjstream.api"):
        api("GET", A1, token=None)
        api("GET", A1, token="no.good.token")
        api("POST", INSTRUCTIONS, new())
    lines = [vars(record) for record in caplog.records]
    logged = [line for line in lines if line["msg"] in ("HTTP request", "caller refused")]
    assert len(logged) == 5
    assert {line.get("client") for line in logged} == {"127.0.0.1"}


def test_the_documentation_needs_no_internet(tmp_path: object) -> None:
    api = make_api(tmp_path, environment="development")  # type: ignore[arg-type]
    page = api("GET", "/docs", token=None)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert not re.search(r"<script|https?://|//cdn|src=", page.text)
    for route in (f"POST {ADMIN}/student-prompts", "GET /v1/content/{storage_id}"):
        assert route in page.text
    assert "prompt_text" in page.text
    assert api("GET", "/docs", token=None).headers["content-security-policy"]
