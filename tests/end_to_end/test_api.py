"""The admin API as a real process with a real broker: uploads, conditions, two processes, start and stop."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from processors.settings import Settings
from tests.end_to_end.serving import Serving, ready_api, serving
from tests.support.until import until
from tools.broker import free_port

INSTRUCTIONS = "/admin/v1/assessment-instructions"
A1 = f"{INSTRUCTIONS}/assignment/a1"
TEXT = "Judge how clearly the argument is put."
TASK = "Write about a rule that you would change."


def new(assignment_id: str = "a1", **changes: Any) -> dict[str, Any]:
    """The body of a write of instructions."""
    defaults = {"instructions_text": TEXT, "grade_scale": "swedish_8_anchor"}
    return {"assignment_id": assignment_id, **defaults, **changes}


@pytest.fixture
def api(settings: Settings) -> Iterator[Serving]:
    """An API process of the test's installation that is ready."""
    with ready_api(settings) as api:
        yield api


def log_lines(api: Serving) -> list[dict[str, Any]]:
    """The log of the process; every line is JSON."""
    return [json.loads(line) for line in api.log.read_text().splitlines()]


def test_an_assignment_is_written_read_changed_and_deleted(api: Serving) -> None:
    created = api("POST", "/admin/v1/assignments", new(prompt_text=TASK), If_None_Match="*")
    assert (created.status_code, created.json()["folded"]) == (200, True), created.text
    assert len(created.headers["x-position"].split(",")) == 2
    assert api("GET", "/admin/v1/assignments/a1/readiness").json()["ready"] is True
    etag = api("GET", A1).headers["etag"]
    other = {"instructions_text": "Judge how well the parts hang together."}
    changed = api("PATCH", A1, other, If_Match=etag)
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    stale = api("PATCH", A1, other, If_Match=etag)
    assert (stale.status_code, stale.json()["current_version"]) == (412, 2)
    assert stale.headers["etag"] == changed.headers["etag"]
    listed = api("GET", INSTRUCTIONS).json()
    assert [item["assignment_id"] for item in listed["items"]] == ["a1"]
    assert api("DELETE", A1).json()["deleted"] == ["instructions", "student_prompt"]
    deleted = api("GET", "/admin/v1/student-prompts/assignment/a1")
    assert (deleted.status_code, deleted.json()["deleted"]) == (404, True)
    assert TEXT not in api.log.read_text()
    uploaded = [line for line in log_lines(api) if line["event"] == "role uploaded"]
    uploads = [(line["role"], line["version"]) for line in uploaded]
    assert [version for role, version in uploads if role == "instructions"] == [1, 2]
    assert "cj_admin_append_duration_seconds_count 3.0" in api("GET", "/metrics").text


def test_two_processes_see_each_others_writes_immediately(api: Serving) -> None:
    with ready_api(api.settings) as other:
        for version in range(1, 7):
            writer, reader = (api, other) if version % 2 else (other, api)
            text = f"Judge how clearly the argument is put, {version}."
            written = writer("PUT", A1, new(instructions_text=text))
            assert written.json()["version"] == version, written.text
            assert reader("GET", A1).json()["instructions_text"] == text
        assert "cj_admin_writer_fenced_total" in api("GET", "/metrics").text


def test_after_a_restart_the_state_is_the_same(api: Serving) -> None:
    etag = api("PUT", A1, new()).headers["etag"]
    assert api.stop(15) == 0
    assert [line["event"] for line in log_lines(api)].count("API stops") == 1
    with serving(api.settings) as restarted:
        until(restarted.is_ready, 60)
        assert restarted("GET", A1).headers["etag"] == etag


def test_a_body_of_2_mb_is_refused_over_http(api: Serving) -> None:
    refused = api("POST", INSTRUCTIONS, {"instructions_text": "x" * 2_000_000})
    assert (refused.status_code, refused.json()["limit_bytes"]) == (413, 1_048_576)
    assert api("PUT", A1, new()).status_code == 201


def test_without_a_broker_it_responds_logs_what_it_waits_for_and_stops(tmp_path: Path) -> None:
    no_broker = Settings(
        bootstrap_servers=f"127.0.0.1:{free_port()}",
        data_dir=tmp_path,
        api_port=free_port(),
        fold_timeout_s=0.5,
        write_timeout_s=1,
    )
    with serving(no_broker) as api:
        until(api.answers, 60)
        until(lambda: '"waiting until' in api.log.read_text())
        [waiting] = [line for line in log_lines(api) if line["event"].startswith("waiting")]
        assert waiting["for"] == ["replica", "kafka"]
        checks = api("GET", "/readyz")
        assert (checks.status_code, checks.json()["checks"]["kafka"]) == (503, False)
        refused = api("PUT", A1, new())
        assert (refused.status_code, refused.json()["title"]) == (503, "Kafka unreachable")
        assert int(refused.headers["retry-after"]) > 0
        assert api.stop() == 0


@pytest.mark.parametrize(
    ("variables", "setting"),
    [
        ({"JWT_SECRET_KEY": ""}, "JWT_SECRET_KEY"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY"),
        ({"CJSTREAM_FOLD_TIMEOUT_S": "soon"}, "CJSTREAM_FOLD_TIMEOUT_S"),
        ({"CJSTREAM_CONTENT_URL": "gopher://x"}, "CJSTREAM_CONTENT_URL"),
    ],
)
def test_an_invalid_setting_ends_the_process_with_exit_code_2(
    tmp_path: Path, variables: dict[str, str], setting: str
) -> None:
    settings = Settings(data_dir=tmp_path, api_port=free_port())
    with serving(settings, **variables) as api:
        assert api.wait_for_exit(60) == 2
        last_line = api.log.read_text().splitlines()[-1]
        assert last_line.startswith(f"cjstream: {setting}"), last_line
        assert "Traceback" not in api.log.read_text()


def test_a_port_in_use_ends_the_process_with_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(data_dir=tmp_path, api_port=taken.getsockname()[1])
        with serving(settings) as api:
            assert api.wait_for_exit(60) == 2
            assert "CJSTREAM_API_PORT" in api.log.read_text().splitlines()[-1]


def test_missing_topics_end_the_process_with_a_one_line_error(
    settings: Settings, tmp_path: Path
) -> None:
    no_topics = {"topic_prefix": f"{settings.topic_prefix}not-there-", "api_port": free_port()}
    with serving(settings.model_copy(update=no_topics)) as api:
        assert api.wait_for_exit(60) != 0
        last_line = api.log.read_text().splitlines()[-1]
        assert last_line.startswith("cjstream: "), last_line
        assert "topics apply" in last_line


def test_metrics_can_have_a_separate_port(settings: Settings) -> None:
    metrics_port = free_port()
    with ready_api(settings, metrics_port=metrics_port) as api:
        assert api("GET", "/metrics").status_code == 404
        at_metrics = api.settings.model_copy(update={"api_port": metrics_port})
        metrics = Serving(at_metrics, api.log)
        assert "cj_admin_http_requests_total" in metrics("GET", "/metrics").text
