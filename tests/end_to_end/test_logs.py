"""What processes log: one JSON object a line, with the correlation id, and no line for each record."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from processors.settings import Settings
from schemas.events import InstructionsUploaded
from tests.faults.asking import Progress
from tests.faults.load import CODEC, a_request, assignment, send
from tests.faults.reading import read_all
from tests.faults.running import StartWorker
from tests.support.judged_batches import JUDGE, append_batches, results_of
from tests.support.scraping import Scraped
from tests.support.until import until
from tools.admin.dev_token import dev_token
from tools.broker import free_port

API = ("-m", "tools", "api")
SECRET = "the text that no log may show"
REQUESTS = 300


def lines_of(log: Path) -> list[dict[str, Any]]:
    """The lines of a process; each must be a JSON object with these fields."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        assert {"timestamp", "level", "logger", "event", "service"} <= line.keys(), line
    return lines


@pytest.mark.thorough
def test_a_worker_and_a_judge_log_changes_of_state_and_no_records(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = start_worker("one")
    judge = start_worker("judge", JUDGE, judge="simulated/sim-1", judge_first_start="beginning")
    send(settings, *assignment("a0"))
    send(settings, *(a_request(number) for number in range(REQUESTS)))
    with Progress(settings) as progress:
        until(progress.is_settled, 60)
    append_batches(settings, 1, 4)  # not before: outcomes without a committed offset stop a worker
    until(lambda: results_of(settings), 60)
    assert (worker.stop(30), judge.stop(30)) == (0, 0)
    lines = lines_of(worker.log)
    assert {(line["service"], line["slot"]) for line in lines} == {("cjstream-worker", "one")}
    events = [line["event"] for line in lines]
    for phrase in ("replica caught up", "worker runs", "worker stops"):
        assert events.count(phrase) == 1
    assert len(lines) < REQUESTS / 5
    judged = lines_of(judge.log)
    assert {line["service"] for line in judged} == {"cjstream-judge"}
    assert len(judged) < REQUESTS / 5


@pytest.mark.thorough
def test_a_write_is_found_by_its_correlation_id_from_the_access_log_to_the_event(
    settings: Settings, start_worker: StartWorker
) -> None:
    port = free_port()
    api = start_worker("api", API, api_port=port, environment="development")
    Scraped(f"127.0.0.1:{port}").wait_until_ready()
    signed = dev_token(environment="development")
    answer = httpx.post(
        f"http://127.0.0.1:{port}/admin/v1/assessment-instructions",
        json={
            "assignment_id": "a1",
            "grade_scale": "swedish_8_anchor",
            "instructions_text": SECRET,
        },
        headers={"Authorization": f"Bearer {signed}"},
        trust_env=False,
        timeout=60,
    )
    assert answer.is_success, answer.text
    correlation_id = answer.headers["X-Correlation-ID"]
    topic = settings.topics.instructions.name
    [record] = read_all(settings.bootstrap_servers, topic, settings.partitions)
    event = CODEC.decode_as(InstructionsUploaded, record.value)
    assert event.correlation_id == correlation_id
    assert api.stop(30) == 0
    [access] = [
        line
        for line in lines_of(api.log)
        if line["event"] == "HTTP request" and line.get("correlation_id") == correlation_id
    ]
    assert access["client"] == "127.0.0.1"
    assert (access["method"], access["status"]) == ("POST", answer.status_code)
    assert SECRET not in api.log.read_text()
