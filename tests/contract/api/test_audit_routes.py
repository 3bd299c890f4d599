"""What was, over HTTP: an assignment as it stood, its history, and the audit's own routes."""

import json
from typing import Any

import pytest

from schemas.errors import Unreachable
from tests.contract.api.calling import ADMIN, AUDIT, TASK, TEXT, Api
from tests.support.builders import prompt_deleted, prompt_uploaded, sha256_of

A1 = f"{ADMIN}/assignments/a1"
SCOPE = f"{AUDIT}/scopes/assignment:a1"


@pytest.fixture
def story(api: Api) -> list[str]:
    """Instructions, two versions of a prompt, its deletion: their coordinates."""
    api.given(prompt=True)
    body = {"assignment_id": "a1", "prompt_text": f"{TASK} Give reasons."}
    assert api("POST", f"{ADMIN}/student-prompts", body).status_code == 200
    assert api("DELETE", f"{ADMIN}/student-prompts/assignment/a1").status_code == 200
    return [str(one.at) for one in api.log.records]


def got(api: Api, path: str) -> Any:
    answer = api("GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_assignment_is_shown_as_it_stood(api: Api, story: list[str]) -> None:
    _, first, second, _ = story
    then = got(api, f"{A1}?as_of={first}")
    assert (then["student_prompt"]["version"], then["student_prompt"]["text"]) == (1, TASK)
    assert then["instructions"]["text"] == TEXT
    later = got(api, f"{A1}?as_of={second}&texts=false")
    assert (later["student_prompt"]["version"], "text" in later["student_prompt"]) == (2, False)
    assert got(api, f"{A1}?as_of=0s")["student_prompt"]["deleted"] is True
    before = api("GET", f"{A1}?as_of=2020-01-01T00:00:00Z")
    assert (before.status_code, before.json()["deleted"]) == (404, False)


def test_a_text_that_was_erased_is_left_out_and_a_missing_one_is_told(
    api: Api, story: list[str]
) -> None:
    (stored,) = (one for one in api.folder.rglob(sha256_of(TASK)) if one.is_file())
    stored.unlink()
    gone = api("GET", f"{A1}?as_of={story[1]}")
    assert gone.json()["type"].endswith("content-missing")
    api.log.append(prompt_deleted(version=4, erased=True), "assignment:a1")
    then = got(api, f"{A1}?as_of={story[1]}")
    assert (then["student_prompt"]["version"], "text" in then["student_prompt"]) == (1, False)


@pytest.mark.parametrize("moment", ["tomorrow", "2999-01-01T00:00:00Z", "t/0@7", "2020-01-01", ""])
@pytest.mark.parametrize("path", [f"{A1}?as_of=", f"{SCOPE}/as-of?at="])
def test_what_is_no_moment_of_the_log_is_a_fault(
    api: Api, story: list[str], path: str, moment: str
) -> None:
    answer = api("GET", f"{path}{moment}")
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["errors"]
    where = path.rpartition("?")[2].rstrip("=")
    code = "unknown_position" if "@" in moment else "invalid_time"
    assert (fault["location"], fault["code"]) == (f"query/{where}", code)


def test_a_history_has_pages_newest_first(api: Api, story: list[str]) -> None:
    whole = got(api, f"{A1}/history")
    assert [(one["role"], one["version"]) for one in whole["items"]] == [
        ("student_prompt", 3),
        ("student_prompt", 2),
        ("student_prompt", 1),
        ("instructions", 1),
    ]
    assert (whole["total"], whole["complete"], whole["gaps"]) == (4, True, [])
    page = got(api, f"{A1}/history?page=2&page_size=3")
    assert (page["items"], page["total"], page["page"]) == (whole["items"][3:], 4, 2)
    assert got(api, f"{A1}/history?page=9")["items"] == []
    unknown = api("GET", f"{ADMIN}/assignments/nobody/history")
    assert (unknown.status_code, unknown.json()["resource_type"]) == (404, "assignment")


def test_an_auditor_sees_a_scope_and_what_changed(api: Api, story: list[str]) -> None:
    _, first, second, _ = story
    found = got(api, f"{SCOPE}/as-of?at={second}&diff={first}")
    assert (found["complete"], found["student_prompt"]["text_state"]) == (True, "present")
    changed = {one["role"]: one for one in found["diff"]}
    assert changed["instructions"]["change"] == "unchanged"
    assert f"+{TASK} Give reasons." in changed["student_prompt"]["text_diff"].splitlines()
    history = got(api, f"{SCOPE}/history?uses=true")
    assert [one["batches"] for one in history["items"]] == [0, 0, 0, 0]
    assert (history["complete"], history["damaged"], history["lost"]) == (True, [], [])


def test_a_scope_that_never_was_has_an_empty_past(api: Api) -> None:
    found = got(api, f"{AUDIT}/scopes/course:ENG5/as-of?at=0s")
    assert (found["course_id"], found["instructions"], found["complete"]) == ("ENG5", None, True)
    assert got(api, f"{AUDIT}/scopes/course:ENG5/history")["items"] == []


@pytest.mark.parametrize("scope", ["a1", "teacher:a1", "assignment:", "assignment:a%00b"])
def test_what_is_no_scope_is_a_fault(api: Api, scope: str) -> None:
    answer = api("GET", f"{AUDIT}/scopes/{scope}/history")
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, "path/scope")


def test_a_foreign_storage_id_is_shown_as_it_is(api: Api) -> None:
    api.log.append(prompt_uploaded(storage_id="their-id"), "assignment:a1")
    (item,) = got(api, f"{SCOPE}/history")["items"]
    assert item["storage_id"] == "their-id"


def lines_of(api: Api, path: str) -> list[Any]:
    answer = api("GET", path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_replay_is_a_line_for_each_scope_and_the_summary(api: Api, story: list[str]) -> None:
    *contexts, summary = lines_of(api, f"{AUDIT}/replay")
    assert [one["context"]["scope_key"] for one in contexts] == ["assignment:a1"]
    assert list(summary) == ["summary"]
    assert len(lines_of(api, f"{AUDIT}/replay?scope=course:ENG5")) == 1
    assert len(lines_of(api, f"{AUDIT}/verify?texts=false")) == 1


def test_what_goes_wrong_before_the_first_line_is_a_problem(api: Api, story: list[str]) -> None:
    unknown = api("GET", f"{AUDIT}/replay?to=t/0@7")
    assert (unknown.status_code, unknown.json()["errors"][0]["location"]) == (422, "query")
    api.past.faults = [Unreachable("Kafka")]
    away = api("GET", f"{AUDIT}/verify")
    assert (away.status_code, away.json()["type"][21:]) == (503, "log-unavailable")


def test_a_batch_that_nobody_asked_for_is_not_found(api: Api) -> None:
    answer = api("GET", f"{AUDIT}/batches?batch_id=a/b")
    assert (answer.status_code, answer.json()["resource_type"]) == (404, "batch")
    assert api("GET", f"{AUDIT}/batches").json()["errors"][0]["code"] == "required"
