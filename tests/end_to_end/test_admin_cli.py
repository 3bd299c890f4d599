"""The admin command line against the real API, in a process of its own, on a real broker."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from processors.settings import Settings
from tests.end_to_end.serving import Serving, ready_api
from tests.support.run_command import run_main
from tests.support.tokens import SECRET

TEXT = "Judge how clearly the argument is put."
TASK = "Skriv om en regel som du skulle ändra.\n\nMinst 200 ord."
A1 = ("--assignment-id", "a1")
CREATE = ("instructions", "create", "--grade-scale", "swedish_8_anchor")


@dataclass(frozen=True)
class Ended:
    """Exit code, document (if there is one) and stderr of a command."""

    code: int
    document: Any
    err: str


Admin = Callable[..., Ended]


@pytest.fixture
def api(settings: Settings) -> Iterator[Serving]:
    """An API process of the test's installation that is ready."""
    with ready_api(settings) as api:
        yield api


@pytest.fixture
def admin(api: Serving, tmp_path: Path) -> Admin:
    """Runs commands in development, where a token needs no identity service."""
    development = {
        "CJSTREAM_ENVIRONMENT": "development",
        "JWT_SECRET_KEY": SECRET,
        "CJ_ADMIN_BASE_URL": api.url,
        "CJ_ADMIN_TOKEN_PATH": str(tmp_path / "token.json"),
    }

    def run(*arguments: str, stdin: str = "", **variables: str) -> Ended:
        inherited = {name: value for name, value in os.environ.items() if name[:2] != "CJ"}
        environment = inherited | development | variables
        with chdir(tmp_path):
            code, out, err = run_main(environment, "admin", *arguments, "--json", stdin=stdin)
        return Ended(code, json.loads(out) if out else None, err)

    return run


def test_an_assignment_is_created_read_changed_and_deleted(
    admin: Admin, api: Serving, tmp_path: Path
) -> None:
    (tmp_path / "task.txt").write_text(TASK)
    created = admin(
        *(*CREATE, *A1, "--instructions-file", "-", "--prompt-file", "task.txt", "--create-only"),
        stdin=TEXT,
    )
    assert (created.code, created.document["outcome"]) == (0, "created"), created.err
    again = admin(*CREATE, *A1, "--instructions-text", TEXT, "--create-only")
    assert (again.code, again.document["type"]) == (1, "urn:cjstream:problem:version-mismatch")
    assert again.document["current_tag"] in again.err
    shown = admin("assignments", "show", "a1", "--require-ready")
    assert (shown.code, shown.document["tag"]) == (0, created.document["tag"])
    assert shown.document["student_prompt"]["text"] == TASK
    assert shown.document["student_prompt"]["actor"] == "dev-admin"
    assert admin("prompts", "get", "a1", "--output-file", "got/task.txt").code == 0
    assert (tmp_path / "got/task.txt").read_text() == TASK
    tag = shown.document["tag"].removeprefix("i").partition(".")[0]
    update = ("instructions", "update", *A1, "--instructions-text", f"{TEXT} And how well.")
    assert admin(*update, "--if-version", tag).document["version"] == 2
    assert admin(*update, "--if-version", tag).code == 1
    repeated = admin(*update)
    assert (repeated.code, repeated.document["outcome"]) == (0, "unchanged")
    assert (
        admin("rubrics", "upload", *A1, "--rubric-text", "Weigh evenly.").document["version"] == 1
    )
    listed = admin("instructions", "list").document
    assert [item["scope_key"] for item in listed["items"]] == ["assignment:a1"]
    assert admin("prompts", "delete", "a1", "--yes").code == 0
    unready = admin("assignments", "show", "a1", "--no-texts", "--require-ready")
    assert (unready.code, unready.document["readiness"]["missing"]) == (3, ["student_prompt"])
    now = unready.document["tag"]
    deleted = admin("instructions", "delete", *A1, "--yes", "--if-version", now)
    assert (deleted.code, deleted.document["deleted"]) == (0, ["instructions", "judge_rubric"])
    assert admin("instructions", "get", "a1").document["deleted"] is True
    assert TEXT not in api.log.read_text()


def test_a_course_and_an_id_with_special_characters_are_found(admin: Admin) -> None:
    for scope in (("--course-id", "ENG 5%"), ("--assignment-id", "å?#b")):
        assert admin(*CREATE, *scope, "--instructions-text", TEXT).document["version"] == 1
    course = admin("instructions", "get", "--course-id", "ENG 5%").document
    assert (course["scope_key"], course["instructions_text"]) == ("course:ENG 5%", TEXT)
    assert admin("instructions", "get", "å?#b").document["scope_key"] == "assignment:å?#b"


def test_the_token_decides_what_is_allowed(admin: Admin) -> None:
    make_token = ("token", "dev", "--role", "service", "--subject", "judge", "--cache")
    assert admin(*make_token).code == 0
    who = admin("whoami", "--check").document
    assert (who["subject"], who["source"], who["accepted"]) == ("judge", "cache", True)
    refused = admin("instructions", "list")
    assert (refused.code, refused.document["status"]) == (1, 403)
    forged = admin("whoami", "--check", CJ_ADMIN_TOKEN="a.b.c")
    assert (forged.code, forged.document["reason"]) == (1, "invalid_token")
    assert "cjstream admin login" in forged.err


def test_the_command_line_and_the_api_list_the_same_scales(admin: Admin, api: Serving) -> None:
    assert admin("scales", "list").document == api("GET", "/admin/v1/grade-scales").json()


def test_a_stopped_api_ends_with_exit_code_4(admin: Admin, api: Serving) -> None:
    assert api.stop(15) == 0
    assert admin("assignments", "show", "a1").code == 4
