"""The past over HTTP: an assignment at a moment, its history, and the audit routes."""

import json
from typing import Any

import pytest

from schemas.errors import Unreachable
from tests.contract.api.calling import ADMIN, AUDIT, TASK, TEXT, Api
from tests.support.builders import prompt_deleted, prompt_uploaded, sha256_of

A1 = f"{ADMIN}/assignments/a1"
SCOPE = f"{AUDIT}/scopes/assignment:a1"


@pytest.fixture
def uploads(api: Api) -> list[str]:
    """The coordinates of instructions, of two versions of a prompt, and of its deletion."""
    api.create_assignment(prompt=True)
    body = {"assignment_id": "a1", "prompt_text": f"{TASK} Give reasons."}
    assert api("POST", f"{ADMIN}/student-prompts", body).status_code == 200
    assert api("DELETE", f"{ADMIN}/student-prompts/assignment/a1").status_code == 200
    return [str(record.at) for record in api.log.records]


def get(api: Api, path: str) -> Any:
    response = api("GET", path)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_assignment_can_be_read_at_a_moment(api: Api, uploads: list[str]) -> None:
    _, first, second, _ = uploads
    then = get(api, f"{A1}?as_of={first}")
    assert (then["student_prompt"]["version"], then["student_prompt"]["text"]) == (1, TASK)
    assert then["instructions"]["text"] == TEXT
    later = get(api, f"{A1}?as_of={second}&texts=false")
    assert (later["student_prompt"]["version"], "text" in later["student_prompt"]) == (2, False)
    assert get(api, f"{A1}?as_of=0s")["student_prompt"]["deleted"] is True
    before = api("GET", f"{A1}?as_of=2020-01-01T00:00:00Z")
    assert (before.status_code, before.json()["deleted"]) == (404, False)


def test_an_erased_text_is_left_out_and_a_missing_text_is_reported(
    api: Api, uploads: list[str]
) -> None:
    (stored,) = (path for path in api.folder.rglob(sha256_of(TASK)) if path.is_file())
    stored.unlink()
    missing = get(api, f"{A1}?as_of={uploads[1]}")["student_prompt"]
    assert (missing["text_state"], "text" in missing) == ("missing", False)
    api.log.append(prompt_deleted(version=4, erased=True), "assignment:a1")
    then = get(api, f"{A1}?as_of={uploads[1]}")
    assert (then["student_prompt"]["version"], "text" in then["student_prompt"]) == (1, False)
    assert then["student_prompt"]["text_state"] == "erased"


@pytest.mark.parametrize("moment", ["tomorrow", "2999-01-01T00:00:00Z", "t/0@7", "2020-01-01", ""])
@pytest.mark.parametrize("path", [f"{A1}?as_of=", f"{SCOPE}/as-of?at="])
def test_a_moment_that_the_log_does_not_have_is_a_fault(
    api: Api, uploads: list[str], path: str, moment: str
) -> None:
    response = api("GET", f"{path}{moment}")
    assert response.status_code == 422, response.text
    (fault,) = response.json()["errors"]
    parameter = path.rpartition("?")[2].rstrip("=")
    code = "unknown_position" if "@" in moment else "invalid_time"
    assert (fault["location"], fault["code"]) == (f"query/{parameter}", code)


def test_a_history_has_pages_newest_first(api: Api, uploads: list[str]) -> None:
    complete = get(api, f"{A1}/history")
    assert [(item["role"], item["version"]) for item in complete["items"]] == [
        ("student_prompt", 3),
        ("student_prompt", 2),
        ("student_prompt", 1),
        ("instructions", 1),
    ]
    assert (complete["total"], complete["complete"], complete["gaps"]) == (4, True, [])
    page = get(api, f"{A1}/history?page=2&page_size=3")
    assert (page["items"], page["total"], page["page"]) == (complete["items"][3:], 4, 2)
    assert get(api, f"{A1}/history?page=9")["items"] == []
    whole = get(api, f"{SCOPE}/history")
    page = get(api, f"{SCOPE}/history?page=2&page_size=3&uses=true")
    assert [item["source"] for item in page["items"]] == [whole["items"][3]["source"]]
    assert (page["total"], page["page"], page["page_size"], page["complete"]) == (4, 2, 3, True)
    assert api("GET", f"{SCOPE}/history?page_size=201").status_code == 422
    unknown = api("GET", f"{ADMIN}/assignments/nobody/history")
    assert (unknown.status_code, unknown.json()["resource_type"]) == (404, "assignment")


def test_a_scope_at_a_moment_lists_the_changes_since_another_moment(
    api: Api, uploads: list[str]
) -> None:
    _, first, second, _ = uploads
    scope = get(api, f"{SCOPE}/as-of?at={second}&diff={first}")
    assert (scope["complete"], scope["student_prompt"]["text_state"]) == (True, "present")
    changes = {change["role"]: change for change in scope["diff"]}
    assert changes["instructions"]["change"] == "unchanged"
    assert f"+{TASK} Give reasons." in changes["student_prompt"]["text_diff"].splitlines()
    history = get(api, f"{SCOPE}/history?uses=true")
    assert [item["batches"] for item in history["items"]] == [0, 0, 0, 0]
    assert (history["complete"], history["damaged"], history["lost"]) == (True, [], [])


def test_an_unknown_scope_has_an_empty_history(api: Api) -> None:
    scope = get(api, f"{AUDIT}/scopes/course:ENG5/as-of?at=0s")
    assert (scope["course_id"], scope["instructions"], scope["complete"]) == ("ENG5", None, True)
    assert get(api, f"{AUDIT}/scopes/course:ENG5/history")["items"] == []


@pytest.mark.parametrize("scope", ["a1", "teacher:a1", "assignment:", "assignment:a%00b"])
def test_an_invalid_scope_key_is_a_fault(api: Api, scope: str) -> None:
    response = api("GET", f"{AUDIT}/scopes/{scope}/history")
    assert (response.status_code, response.json()["errors"][0]["location"]) == (422, "path/scope")


def test_another_producers_storage_id_is_returned_unchanged(api: Api) -> None:
    api.log.append(prompt_uploaded(storage_id="their-id"), "assignment:a1")
    (item,) = get(api, f"{SCOPE}/history")["items"]
    assert item["storage_id"] == "their-id"


def lines_of(api: Api, path: str) -> list[Any]:
    response = api("GET", path)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_replay_returns_one_line_per_scope_and_the_summary(api: Api, uploads: list[str]) -> None:
    *contexts, summary = lines_of(api, f"{AUDIT}/replay")
    assert [line["context"]["scope_key"] for line in contexts] == ["assignment:a1"]
    assert list(summary) == ["summary"]
    assert len(lines_of(api, f"{AUDIT}/replay?scope=course:ENG5")) == 1
    assert len(lines_of(api, f"{AUDIT}/verify?texts=false")) == 1


def test_an_error_before_the_first_line_is_a_problem(api: Api, uploads: list[str]) -> None:
    unknown = api("GET", f"{AUDIT}/replay?to=t/0@7")
    assert (unknown.status_code, unknown.json()["errors"][0]["location"]) == (422, "query")
    api.audit.faults = [Unreachable("Kafka")]
    unreachable = api("GET", f"{AUDIT}/verify")
    assert (unreachable.status_code, unreachable.json()["type"][21:]) == (503, "log-unavailable")


def test_a_batch_without_requests_is_not_found(api: Api) -> None:
    response = api("GET", f"{AUDIT}/batches?batch_id=a/b")
    assert (response.status_code, response.json()["resource_type"]) == (404, "batch")
    assert api("GET", f"{AUDIT}/batches").json()["errors"][0]["code"] == "required"
