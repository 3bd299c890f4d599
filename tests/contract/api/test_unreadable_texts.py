"""Responses with many texts, of which one cannot be read: that one is marked, and the others are there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.api.calling import A1, ADMIN, INSTRUCTIONS, PROMPT, RUBRIC, TEXT, Api, new
from tests.support.builders import instructions_uploaded, sha256_of

OTHER = "Judge the structure, then the language."
ASSIGNMENT = f"{ADMIN}/assignments/a1"


def _a_folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


SPOILED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "gone": ("missing", Path.unlink),
    "other bytes": ("damaged", lambda path: path.write_bytes(b"something else")),
    "empty": ("damaged", lambda path: path.write_bytes(b"")),
    "not a file": ("missing", _a_folder_instead),
}


def file_of(api: Api, text: str) -> Path:
    [path] = (path for path in api.folder.rglob(sha256_of(text)) if path.is_file())
    return path


@pytest.mark.parametrize(("state", "spoil"), SPOILED.values(), ids=SPOILED)
def test_one_text_does_not_hide_the_list(
    api: Api, state: str, spoil: Callable[[Path], object]
) -> None:
    api.create_assignment(prompt=True)
    assert api("POST", INSTRUCTIONS, new("a2", instructions_text=OTHER)).status_code == 200
    spoil(file_of(api, TEXT))
    listed = {item["assignment_id"]: item for item in api("GET", INSTRUCTIONS).json()["items"]}
    assert (listed["a1"]["text_state"], listed["a1"]["instructions_text"]) == (state, None)
    assert (listed["a2"]["text_state"], listed["a2"]["instructions_text"]) == ("present", OTHER)


@pytest.mark.parametrize(("state", "spoil"), SPOILED.values(), ids=SPOILED)
def test_one_text_does_not_hide_the_others_of_its_assignment(
    api: Api, state: str, spoil: Callable[[Path], object]
) -> None:
    api.create_assignment(prompt=True, rubric=True)
    spoil(file_of(api, TEXT))
    shown = api("GET", ASSIGNMENT).json()
    assert shown["instructions"]["text_state"] == state
    assert "text" not in shown["instructions"]
    for path in (PROMPT, RUBRIC):
        found = api("GET", path).json()
        assert (found["instructions_text"], found["instructions_text_state"]) == (None, state)
    assert shown["student_prompt"]["text_state"] == "present"
    assert shown["judge_rubric"]["text_state"] == "present"


def test_the_text_of_another_producer_is_marked_in_the_list(api: Api) -> None:
    event = instructions_uploaded(assignment_id="a1", storage_id="their-id")
    api.log.append(event, "assignment:a1")
    (item,) = api("GET", INSTRUCTIONS).json()["items"]
    assert (item["text_state"], item["instructions_text"]) == ("elsewhere", None)


def test_a_write_succeeds_although_the_text_of_another_role_cannot_be_read(api: Api) -> None:
    api.create_assignment(prompt=True)
    file_of(api, TEXT).unlink()
    prompt = {"assignment_id": "a1", "prompt_text": "Write about a place."}
    uploaded = api("POST", f"{ADMIN}/student-prompts", prompt)
    assert (uploaded.status_code, uploaded.json()["instructions_text_state"]) == (200, "missing")
    changed = api("PATCH", A1, {})
    assert (changed.status_code, changed.json()["text_state"]) == (200, "missing")
    file_of(api, "Write about a place.").unlink()
    body = {"assignment_id": "a1", "instructions_text": OTHER, "grade_scale": "swedish_8_anchor"}
    replaced = api("POST", f"{ADMIN}/assignments", body)
    assert (replaced.status_code, replaced.json()["student_prompt"]["text_state"]) == (
        200,
        "missing",
    )
