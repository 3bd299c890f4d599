"""The admin API is killed between storing a text and its event, or its broker is killed during writes."""

from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.end_to_end.serving import Serving, serving
from tests.support.installations import installation
from tests.support.s3_stub import bucket_server
from tests.support.until import until
from tools.broker import Broker, free_port

A1 = "/admin/v1/assessment-instructions/assignment/a1"
PROMPTS = "/admin/v1/student-prompts"
TASK = "Write about a rule that you would change."
TEXTS = 40


def instructions(text: str) -> dict[str, Any]:
    return {"instructions_text": text, "grade_scale": "swedish_8_anchor"}


@pytest.mark.thorough
def test_an_api_killed_between_text_and_event_leaves_only_an_orphaned_text(
    broker: Broker, tmp_path: Path
) -> None:
    settings = installation(broker, tmp_path, api_port=free_port(), content_url="s3://bucket")
    with bucket_server() as bucket:
        variables = {
            "AWS_ENDPOINT": bucket.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_REGION": "test",
        }
        with serving(settings, **variables) as api:
            until(api.is_ready, 60)
            assert api("PUT", A1, instructions("Judge the argument.")).status_code == 201
            bucket.acknowledges.clear()
            request = Thread(target=_post_without_answer, args=(api,))
            request.start()
            until(lambda: any(sha256(TASK.encode()).hexdigest() in key for key in bucket.objects))
            api.kill()
            request.join(30)
            bucket.acknowledges.set()
        with serving(settings, **variables) as api:
            until(api.is_ready, 60)
            assert api("GET", f"{PROMPTS}/assignment/a1").status_code == 404
            repeated = api("POST", PROMPTS, {"assignment_id": "a1", "prompt_text": TASK})
            assert (repeated.status_code, repeated.json()["version"]) == (200, 1)


def _post_without_answer(api: Serving) -> None:
    try:
        answer = api("POST", PROMPTS, {"assignment_id": "a1", "prompt_text": TASK})
    except httpx.TransportError:
        return
    raise AssertionError(f"the request was answered: {answer.status_code}")


@pytest.mark.thorough
def test_no_write_is_lost_or_doubled_if_the_broker_is_killed(tmp_path: Path) -> None:
    with Broker.temporary(Path(__file__).parents[2] / ".cjstream") as broker:
        settings = installation(
            broker, tmp_path, api_port=free_port(), write_timeout_s=4, fold_timeout_s=3
        )
        with serving(settings) as api:
            until(api.is_ready, 60)
            statuses = list[int]()
            writing = Thread(target=_write_all, args=(api, statuses))
            writing.start()
            until(lambda: len(statuses) >= 5, 60)
            broker.kill()
            until(lambda: {503, 504} & set(statuses), 60)
            broker.start()
            writing.join(150)
            assert not writing.is_alive(), statuses
            assert set(statuses) <= {200, 201, 202, 503, 504}
            found = until(lambda: _read(api), 60)
            assert found is not None
    assert (found["version"], found["instructions_text"]) == (TEXTS, f"Judge it, {TEXTS - 1}.")


def _write_all(api: Serving, statuses: list[int]) -> None:
    """Write every text until it is accepted; repeating an accepted write changes nothing."""
    for number in range(TEXTS):
        accepted = False
        while not accepted:
            answer = api("PUT", A1, instructions(f"Judge it, {number}."))
            statuses.append(answer.status_code)
            accepted = answer.is_success


def _read(api: Serving) -> dict[str, Any] | None:
    answer = api("GET", A1)
    return answer.json() if answer.is_success else None
