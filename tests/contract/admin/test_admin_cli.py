"""`cjstream admin` against a stub server that answers like the API: calls, output, exit codes."""

import hashlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any
from uuid import UUID

import docx
import pytest
from typer.testing import CliRunner

from tests.support.http_stub import Answering, Told, answering
from tests.support.tokens import hs256
from tests.support.until import until
from tools.cli import app

ROOT = Path(__file__).parents[3]
TEXT = "Judge clarity and structure."
ESSAY = (
    "The youth centre must stay open, because it is the only place where we can meet. " * 2 + "So."
)
STORAGE_ID = "9f" * 32
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("CJ_", "CJSTREAM_", "JWT_", "IDENTITY_"))
}
COLOUR = re.compile("\x1b\\[[0-9;]*[349][0-8]")
PASSWORD = "correct horse battery"
TOKEN = hs256(sub="environment")
COMPONENT = {
    "version": 3,
    "occurred_at": "2030-01-15T09:30:00.000Z",
    "actor": "anna",
    "source": {"topic": "t", "partition": 2, "offset": 41},
    "deleted": False,
    "storage_id": STORAGE_ID,
}
READINESS = {"ready": True, "missing": [], "warnings": [], "has_student_prompt": True}


@dataclass(frozen=True)
class Ended:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


Admin = Callable[..., Ended]


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as stub:
        yield stub


@pytest.fixture
def environ(server: Answering, tmp_path: Path) -> dict[str, str]:
    """The environment of an administrator with a token."""
    return {
        **ENVIRONMENT,
        "PYTHONPATH": str(ROOT),
        "CJ_ADMIN_BASE_URL": server.url,
        "IDENTITY_BASE_URL": f"{server.url}/v1/auth",
        "CJ_ADMIN_TOKEN_PATH": str(tmp_path / "token.json"),
        "CJ_ADMIN_TOKEN": TOKEN,
    }


@pytest.fixture
def admin(environ: dict[str, str], tmp_path: Path) -> Admin:
    """Runs a command in this process, which is fast; `run_at_a_terminal` and `run_as_a_process` start a new one."""

    def run(*arguments: str, stdin: str = "", **variables: str | None) -> Ended:
        env = dict.fromkeys(os.environ) | environ | variables
        with chdir(tmp_path):
            done = CliRunner().invoke(app, ["admin", *arguments], input=stdin, env=env)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ended(done.exit_code, done.stdout, done.stderr)

    return run


def run_as_a_process(environ: Mapping[str, str], *arguments: str) -> Ended:
    """The command in its own process, as people run it."""
    command = [sys.executable, "-W", "error", "-P", "-m", "tools", "admin", *arguments]
    done = subprocess.run(
        command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def problem(slug: str, status: int, **members: Any) -> Told:
    document = {"type": f"urn:cjstream:problem:{slug}", "title": slug, "status": status}
    document |= {"detail": "said by the server", "correlation_id": "c-1", **members}
    return Told(document, status, {"Content-Type": "application/problem+json"})


WRITTEN = {"outcome": "created", "folded": True, "version": 1, "position": [COMPONENT["source"]]}
INSTRUCTIONS = "/admin/v1/assessment-instructions"
ANCHOR = {
    "assignment_id": "a1",
    "anchor_id": "anchor-1",
    "grade": "F",
    "grade_scale": "eng5_np_legacy_9_step",
    "essay_text": ESSAY,
}
UPLOAD_ANCHOR = (
    f"anchors upload --assignment-id a1 --anchor-id ' anchor-1 ' --grade F --essay-text '{ESSAY}'"
    " --grade-scale eng5_np_legacy_9_step"
)
CALLS: dict[str, tuple[str, str, Any, Mapping[str, str]]] = {
    "create": (
        "instructions create --assignment-id a1 --grade-scale swedish_8_anchor "
        f"--instructions-text ' {TEXT}\n' --context-origin canonical_national",
        f"POST {INSTRUCTIONS}",
        {
            "assignment_id": "a1",
            "grade_scale": "swedish_8_anchor",
            "instructions_text": TEXT,
            "context_origin": "canonical_national",
        },
        {},
    ),
    "create for a course, if new": (
        "instructions create --course-id ENG5 --grade-scale swedish_8_anchor "
        f"--instructions-text '{TEXT}' --create-only",
        f"POST {INSTRUCTIONS}",
        {"course_id": "ENG5", "grade_scale": "swedish_8_anchor", "instructions_text": TEXT},
        {"If-None-Match": "*"},
    ),
    "create with a prompt and a rubric": (
        "instructions create --assignment-id a1 --grade-scale swedish_8_anchor "
        f"--instructions-text '{TEXT}' --prompt-text 'Write a letter.' --rubric-text 'Weigh evenly.' "
        "--if-version i3-41.p2-7.r0",
        "POST /admin/v1/assignments",
        {
            "assignment_id": "a1",
            "grade_scale": "swedish_8_anchor",
            "instructions_text": TEXT,
            "prompt_text": "Write a letter.",
            "rubric_text": "Weigh evenly.",
        },
        {"If-Match": '"i3-41.p2-7.r0"'},
    ),
    "get": ("instructions get a1", f"GET {INSTRUCTIONS}/assignment/a1", None, {}),
    "get of a course": (
        "instructions get --course-id ENG5",
        f"GET {INSTRUCTIONS}/course/ENG5",
        None,
        {},
    ),
    "an id that needs escaping": (
        "instructions get 'å b%2F?#'",
        f"GET {INSTRUCTIONS}/assignment/%C3%A5%20b%252F%3F%23",
        None,
        {},
    ),
    "list": (
        "instructions list --page 2 --page-size 200 --grade-scale eng5_np_national_9_step",
        f"GET {INSTRUCTIONS}?page=2&page_size=200&grade_scale=eng5_np_national_9_step",
        None,
        {},
    ),
    "update": (
        f"instructions update --assignment-id a1 --instructions-text '{TEXT}' "
        f"--student-prompt-storage-id {STORAGE_ID} --if-version 3-41",
        f"PATCH {INSTRUCTIONS}/assignment/a1",
        {"instructions_text": TEXT, "student_prompt_storage_id": STORAGE_ID},
        {"If-Match": '"3-41"'},
    ),
    "delete": (
        "instructions delete --assignment-id a1 --yes --if-version i3-41.p0.r0",
        f"DELETE {INSTRUCTIONS}/assignment/a1",
        None,
        {"If-Match": '"i3-41.p0.r0"'},
    ),
    "delete of a course": (
        "instructions delete --course-id ENG5 --yes --if-version 1-0",
        f"DELETE {INSTRUCTIONS}/course/ENG5",
        None,
        {"If-Match": '"1-0"'},
    ),
    "upload a prompt": (
        f"prompts upload --assignment-id a1 --prompt-text '{TEXT}' --if-version 1-2",
        "POST /admin/v1/student-prompts",
        {"assignment_id": "a1", "prompt_text": TEXT},
        {"If-Match": '"1-2"'},
    ),
    "upload a prompt, if there is none": (
        f"prompts upload --assignment-id a1 --prompt-text '{TEXT}' --create-only",
        "POST /admin/v1/student-prompts",
        {"assignment_id": "a1", "prompt_text": TEXT},
        {"If-None-Match": "*"},
    ),
    "upload a rubric": (
        f"rubrics upload --assignment-id a1 --rubric-text '{TEXT}'",
        "POST /admin/v1/judge-rubrics",
        {"assignment_id": "a1", "rubric_text": TEXT},
        {},
    ),
    "get a prompt": ("prompts get a1", "GET /admin/v1/student-prompts/assignment/a1", None, {}),
    "delete a rubric": (
        "rubrics delete a1 --yes",
        "DELETE /admin/v1/judge-rubrics/assignment/a1",
        None,
        {},
    ),
    "upload an anchor": (
        f"{UPLOAD_ANCHOR} --if-version 1-2",
        "POST /admin/v1/anchors",
        ANCHOR,
        {"If-Match": '"1-2"'},
    ),
    "upload an anchor, if there is none": (
        f"{UPLOAD_ANCHOR} --create-only",
        "POST /admin/v1/anchors",
        ANCHOR,
        {"If-None-Match": "*"},
    ),
    "list anchors": (
        "anchors list a1 --grade-scale swedish_8_anchor",
        "GET /admin/v1/anchors/assignment/a1?grade_scale=swedish_8_anchor",
        None,
        {},
    ),
    "delete an anchor": (
        "anchors delete a1 --anchor-id 'å 1' --yes --if-version 1-2",
        "DELETE /admin/v1/anchors/assignment/a1/%C3%A5%201",
        None,
        {"If-Match": '"1-2"'},
    ),
    "delete the anchors of a scale": (
        "anchors delete a1 --grade-scale swedish_8_anchor --yes",
        "DELETE /admin/v1/anchors/assignment/a1?grade_scale=swedish_8_anchor",
        None,
        {},
    ),
    "show": ("assignments show a1", "GET /admin/v1/assignments/a1", None, {}),
    "show without texts": (
        "assignments show a1 --no-texts",
        "GET /admin/v1/assignments/a1?texts=false",
        None,
        {},
    ),
    "show as of a moment": (
        "assignments show a1 --as-of 2026-01-15T09:30:00Z --no-texts",
        "GET /admin/v1/assignments/a1?texts=false&as_of=2026-01-15T09%3A30%3A00Z",
        None,
        {},
    ),
    "whoami --check": ("whoami --check", "GET /admin/v1/grade-scales", None, {}),
}


@pytest.mark.parametrize(("line", "route", "body", "conditions"), CALLS.values(), ids=CALLS)
def test_a_command_makes_one_call_and_prints_the_document(
    admin: Admin,
    server: Answering,
    line: str,
    route: str,
    body: Any,
    conditions: Mapping[str, str],
) -> None:
    document = {"some": "document", "prompt_text": "", "readiness": READINESS}
    server.respond(route, Told(document))
    ended = admin(*shlex.split(line), "--json")
    assert ended.code == 0, ended.err
    assert ended.document == document or "accepted" in ended.document
    assert ended.err == ""
    [request] = server.requests
    assert (request.route, request.body) == (route, body)
    sent = {name: request.headers[name] for name in request.headers if name.startswith("If-")}
    assert sent == conditions
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert UUID(request.headers["X-Correlation-ID"])


BAD_USAGE = [
    "instructions create --grade-scale swedish_8_anchor --instructions-text {text}",
    "instructions create --assignment-id a --course-id c --grade-scale swedish_8_anchor"
    " --instructions-text {text}",
    "instructions create --assignment-id a --instructions-text {text}",
    "instructions create --assignment-id a --grade-scale unknown --instructions-text {text}",
    "instructions create --assignment-id a --grade-scale swedish_8_anchor",
    "instructions create --assignment-id a --grade-scale swedish_8_anchor"
    " --instructions-text {text} --instructions-file f",
    "instructions create --assignment-id a --grade-scale swedish_8_anchor --instructions-file -"
    " --prompt-file -",
    "instructions create --course-id c --grade-scale swedish_8_anchor --instructions-text {text}"
    " --prompt-text {text}",
    "instructions create --course-id c --grade-scale swedish_8_anchor --instructions-text {text}"
    " --rubric-file f",
    "instructions create --assignment-id a --grade-scale swedish_8_anchor"
    " --instructions-text too-short",
    "instructions create --assignment-id a --grade-scale swedish_8_anchor"
    " --instructions-text {blank}",
    "instructions create --assignment-id a --grade-scale swedish_8_anchor"
    " --instructions-text {long}",
    "instructions create --assignment-id a --grade-scale swedish_8_anchor"
    " --instructions-text {text} --context-origin Upper",
    "instructions create --assignment-id a --grade-scale swedish_8_anchor"
    " --instructions-text {text} --create-only --if-version 1-2",
    "instructions create --assignment-id a --grade-scale swedish_8_anchor"
    " --instructions-text {text} --prompt-text {text} --if-version 1-2",
    "instructions create --assignment-id .. --grade-scale swedish_8_anchor"
    " --instructions-text {text}",
    "instructions create --assignment-id a/b --grade-scale swedish_8_anchor"
    " --instructions-text {text}",
    "instructions get",
    "instructions get a --course-id c",
    "instructions list --page 0",
    "instructions list --page-size 201",
    "instructions list --grade-scale unknown",
    "instructions update --assignment-id a",
    "instructions update --instructions-text {text}",
    "instructions update --course-id c --student-prompt-storage-id " + STORAGE_ID,
    "instructions update --assignment-id a --student-prompt-storage-id 9f",
    "instructions update --assignment-id a --instructions-text {text} --if-version 3",
    "instructions update --assignment-id a --instructions-text {text} --if-version i1-2.p0.r0",
    "instructions delete --assignment-id a",
    "instructions delete --yes",
    "instructions delete --course-id c --yes --if-version i1-2.p0.r0",
    "prompts upload --assignment-id a",
    "prompts upload --prompt-text {text}",
    "prompts upload --assignment-id a --prompt-text {text} --prompt-file f",
    "prompts delete a",
    "rubrics upload --assignment-id a --rubric-text {text} --if-version latest",
    "rubrics delete a",
    "anchors upload --assignment-id a --anchor-id x --grade A",
    "anchors upload --assignment-id a --anchor-id x --grade A --essay-text {text}",  # too short
    "anchors upload --assignment-id a --anchor-id x/y --grade A --essay-text {essay}",
    "anchors upload --assignment-id a --anchor-id x --grade 9 --essay-text {essay}"
    " --grade-scale swedish_8_anchor",
    "anchors upload --assignment-id a --grade A --essay-text {essay}",
    "anchors list a --grade-scale unknown",
    "anchors delete a",
    "anchors import --assignment-id a --dir essays",
    "assignments show a --base-url localhost:9095",
    "assignments show a --base-url ftp://localhost/",
    "assignments show a --timeout 0",
    "assignments history a --page 0",
    "assignments show a --as-of 2030-01-15",
    "assignments show a --as-of t/1@x",
    "login",
    "login --email anna@example.org",
    "token dev --ttl forever",
    "whoami --base-url http://",
    "unknown",
]


@pytest.mark.parametrize("line", BAD_USAGE)
def test_invalid_arguments_are_refused_before_any_call(
    admin: Admin, server: Answering, line: str
) -> None:
    words = {"text": TEXT, "essay": ESSAY, "blank": " \n\ufeff", "long": "å" * 32_769}
    arguments = [word.format(**words) for word in line.split()]
    ended = admin(*arguments, "--json", CJSTREAM_ENVIRONMENT="development")
    assert (ended.code, server.requests) == (2, [])
    assert ended.document["type"] == "urn:cjstream:failure:usage"
    assert ended.document["exit_code"] == 2
    assert ended.err
    assert TEXT not in ended.err


def essays_in(folder: Path, **grades: str) -> tuple[str, ...]:
    """Options for a folder with an essay for each anchor, the first one as a Word document, and their grades."""
    folder.mkdir()
    for number, name in enumerate(grades):
        if number:
            (folder / f"{name}.txt").write_text(f"{name}: {ESSAY}")
        else:
            document = docx.Document()
            document.add_paragraph(f"{name}: {ESSAY}")
            document.save(str(folder / f"{name}.docx"))
    rows = "".join(f"{name},{grade}\n" for name, grade in grades.items())
    (folder.parent / "grades.csv").write_text(f"ANCHOR-ID,grade\n{rows}")
    return ("--dir", str(folder), "--grades", str(folder.parent / "grades.csv"))


def test_a_folder_of_anchors_is_stored_and_put_with_the_scale_of_the_instructions(
    admin: Admin, server: Answering, tmp_path: Path
) -> None:
    storage_id = hashlib.sha256(f"ada: {ESSAY}".encode()).hexdigest()
    put = "PUT /admin/v1/anchors/assignment/a1?grade_scale=swedish_8_anchor"
    server.respond(f"GET {INSTRUCTIONS}/assignment/a1", Told({"grade_scale": "swedish_8_anchor"}))
    server.respond("POST /v1/content", Told({"storage_id": storage_id}))
    server.respond(put, Told({"outcome": "created"}))
    options = essays_in(tmp_path / "essays", ada="C+")
    ended = admin("anchors", "import", "--assignment-id", "a1", *options, "--json")
    assert ended.code == 0, ended.err
    assert server.routes[-1] == put
    assert server.requests[-1].body == {
        "anchors": [{"anchor_id": "ada", "grade": "C+", "storage_id": storage_id}]
    }


def test_a_faulty_folder_of_anchors_changes_nothing_and_every_fault_is_named(
    admin: Admin, server: Answering, tmp_path: Path
) -> None:
    options = essays_in(tmp_path / "essays", ada="C+", bo="Z")
    (tmp_path / "essays" / "cy.txt").write_text("too short")
    command = ("anchors", "import", "--assignment-id", "a1", "--grade-scale", "swedish_8_anchor")
    ended = admin(*command, *options)
    assert (ended.code, server.requests) == (3, [])
    assert "grades.csv, line 3: not a grade" in ended.err
    assert "anchor cy.txt: has 9 characters" in ended.err


def test_a_process_prints_its_document_and_exits_with_its_code_without_a_traceback(
    environ: dict[str, str], server: Answering
) -> None:
    show = ("assignments", "show", "a1", "--json")
    server.respond(
        "GET /admin/v1/assignments/a1", Told({"readiness": READINESS}), problem("x", 404)
    )
    assert run_as_a_process(environ, *show) == Ended(
        0, f'{{"readiness":{dumped(READINESS)}}}\n', ""
    )
    refused = run_as_a_process(environ, *show)
    assert (refused.code, refused.document["title"]) == (1, "x")
    assert refused.err.splitlines()[0] == "cjstream: show assignment a1: 404 x: said by the server"
    usage = run_as_a_process(environ, "instructions", "get")
    assert (usage.code, usage.out) == (2, "")
    assert usage.err == "cjstream: give exactly one of an assignment id and --course-id\n"


def dumped(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem("malformed-request", 400), 1),
        (problem("unauthenticated", 401, reason="token_expired"), 1),
        (problem("forbidden", 403), 1),
        (problem("resource-not-found", 404), 1),
        (problem("validation-failed", 422), 1),
        (problem("rate-limited", 429), 1),
        (problem("internal-error", 500), 1),
        (Told(status=302, raw=b"", headers={"Location": "/"}), 1),
        (Told(status=404, raw=b"<html>Not here"), 1),
        (Told(status=501, raw=b""), 1),
        (Told(status=200, raw=b"<html>Welcome"), 1),
        (Told(["no", "problem"], 400), 1),
    ],
    ids=lambda part: str(getattr(part, "status", part)),
)
def test_a_refusal_is_printed_as_lines_on_stderr_and_as_a_problem_on_stdout(
    admin: Admin, server: Answering, answer: Told, code: int
) -> None:
    server.respond("GET /admin/v1/assignments/a1", answer)
    ended = admin("assignments", "show", "a1", "--json")
    assert ended.code == code
    assert len(server.requests) == 1
    if isinstance(answer.document, dict):
        assert ended.document == answer.document
        assert f"{answer.status} {answer.document['title']}: said by the server" in ended.err
        assert "X-Correlation-ID: c-1" in ended.err
    else:
        assert ended.document["title"]
        assert server.requests[0].headers["X-Correlation-ID"] in ended.err
    assert ended.err.startswith("cjstream: show assignment a1: ")
    assert admin("assignments", "show", "a1").out == ""


def test_a_refusal_shows_each_field_and_a_hint(admin: Admin, server: Answering) -> None:
    errors = [
        {
            "location": "body/prompt_text",
            "code": "too_short",
            "message": "at least 10",
            "limit": 10,
        },
        {"location": "query/page", "code": "out_of_range", "message": "from 1"},
    ]
    server.respond(
        "GET /admin/v1/assignments/a1",
        problem("validation-failed", 422, errors=errors),
        problem("version-mismatch", 412, current_version=2, current_tag="2-57"),
        problem("unauthenticated", 401),
    )
    stderr = [admin("assignments", "show", "a1").err for _ in range(3)]
    assert "  body/prompt_text: at least 10 (too_short)\n  query/page: from 1 (out_of" in stderr[0]
    assert "current version is 2" in stderr[1]
    assert "--if-version 2-57" in stderr[1]
    assert "cjstream admin login" in stderr[2]


def test_a_call_with_a_temporary_failure_is_tried_three_times(
    admin: Admin, server: Answering
) -> None:
    route = "POST /admin/v1/student-prompts"
    upload = ("prompts", "upload", "--assignment-id", "a1", "--prompt-text", TEXT, "--json")
    server.respond(route, problem("replica-behind", 503), problem("x", 502), Told(WRITTEN))
    assert (admin(*upload).code, len(server.requests)) == (0, 3)
    assert len({request.headers["X-Correlation-ID"] for request in server.requests}) == 1
    server.respond(route, problem("outcome-unknown", 504))
    ended = admin(*upload)
    assert (ended.code, len(server.requests)) == (4, 6)
    assert ended.document["type"] == "urn:cjstream:problem:outcome-unknown"


@pytest.mark.parametrize(
    "base_url",
    ["http://127.0.0.1:9", "http://nobody.invalid", "https://{server}"],
    ids=["no connection", "no such host", "no TLS"],
)
def test_an_unreachable_api_ends_with_exit_code_4(
    admin: Admin, server: Answering, base_url: str
) -> None:
    url = base_url.format(server=server.url.removeprefix("http://"))
    ended = admin("instructions", "get", "a1", "--json", "--base-url", url)
    assert ended.code == 4
    assert ended.err.startswith(f"cjstream: cannot reach {url}/admin/v1/")
    assert "X-Correlation-ID: " in ended.err
    assert ended.document["type"] == "urn:cjstream:failure:unreachable"
    assert ended.document["exit_code"] == 4


def test_a_write_that_is_not_folded_yet_succeeds_with_a_note(
    admin: Admin, server: Answering
) -> None:
    server.respond(f"DELETE {INSTRUCTIONS}/course/ENG5", Told({"folded": False}, 202))
    ended = admin("instructions", "delete", "--course-id", "ENG5", "--yes", "--json")
    assert (ended.code, ended.document) == (0, {"folded": False})
    assert "not yet folded" in ended.err


def test_the_base_url_may_end_with_admin_v1_and_an_option_overrides_its_variable(
    admin: Admin, server: Answering
) -> None:
    server.respond("GET /below/admin/v1/assignments/a1", Told({"readiness": READINESS}))
    url = f"{server.url}/below/admin/v1/"
    ended = admin(
        "assignments",
        "show",
        "a1",
        "--json",
        "--base-url",
        url,
        CJ_ADMIN_BASE_URL="http://no.invalid",
    )
    assert ended.code == 0


@pytest.mark.parametrize(
    ("readiness", "code"),
    [({"ready": True, "missing": []}, 0), ({"ready": False, "missing": ["student_prompt"]}, 3)],
)
def test_show_requires_readiness_only_with_its_option(
    admin: Admin, server: Answering, readiness: Any, code: int
) -> None:
    server.respond("GET /admin/v1/assignments/a1", Told({"readiness": readiness}))
    ended = admin("assignments", "show", "a1", "--require-ready", "--json")
    assert (ended.code, ended.document) == (code, {"readiness": readiness})
    assert ("student_prompt" in ended.err) == (code == 3)
    assert admin("assignments", "show", "a1", "--json").code == 0


@pytest.mark.parametrize("complete", [True, False])
def test_a_history_with_gaps_ends_with_exit_code_3(
    admin: Admin, server: Answering, complete: bool
) -> None:
    gap = {"role": "student_prompt", "after_version": 1, "before_version": 3, "reason": "gone"}
    document = {"items": [], "complete": complete, "gaps": [] if complete else [gap]}
    server.respond("GET /admin/v1/assignments/a1/history?page=2&page_size=20", Told(document))
    ended = admin("assignments", "history", "a1", "--page", "2", "--json")
    assert (ended.code, ended.document) == (0 if complete else 3, document)
    assert ("student_prompt after version 1: gone" in ended.err) == (not complete)


def test_texts_are_read_from_files_and_stdin(
    admin: Admin, server: Answering, tmp_path: Path
) -> None:
    (tmp_path / "task.txt").write_bytes("\ufeff  Skriv ett brev.\r\nÄrligt.\n".encode())
    server.respond("POST /admin/v1/assignments", Told(WRITTEN))
    ended = admin(
        *("instructions", "create", "--assignment-id", "a1", "--grade-scale", "swedish_8_anchor"),
        *("--instructions-file", "-", "--prompt-file", "task.txt"),
        stdin=f"{TEXT}\n",
    )
    assert ended.code == 0
    [request] = server.requests
    assert request.body["instructions_text"] == TEXT
    assert request.body["prompt_text"] == "Skriv ett brev.\r\nÄrligt."


@pytest.mark.parametrize(
    ("file", "cause"),
    [
        ("missing.txt", "no such file"),
        ("latin.txt", "not UTF-8 from byte 6 on: save it as plain text in UTF-8"),
        (".", "Is a directory"),
    ],
)
def test_an_unreadable_file_ends_with_exit_code_1(
    admin: Admin, server: Answering, tmp_path: Path, file: str, cause: str
) -> None:
    (tmp_path / "latin.txt").write_bytes("Skriv ärligt!".encode("latin-1"))
    ended = admin("prompts", "upload", "--assignment-id", "a1", "--prompt-file", file, "--json")
    assert (ended.code, server.requests) == (1, [])
    assert ended.err == f"cjstream: cannot read {file}: {cause}\n"
    assert ended.document["exit_code"] == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--assignment-id", "a1", "--prompt-file", "\udcff"], 1),
        (["--assignment-id", "a1", "--prompt-text", f"{TEXT}\udcff"], 2),
        (["--assignment-id", "\udcff", "--prompt-text", TEXT], 2),
    ],
    ids=["file", "text", "id"],
)
def test_an_argument_that_is_not_utf8_is_reported_as_a_failure(
    admin: Admin, server: Answering, arguments: list[str], code: int
) -> None:
    ended = admin("prompts", "upload", *arguments, "--json")
    assert (ended.code, ended.document["exit_code"], server.requests) == (code, code, [])


def test_a_prompt_is_shown_or_written_exactly(
    admin: Admin, server: Answering, tmp_path: Path
) -> None:
    text = "Skriv ett brev.\r\n\tÄrligt [bold]!"
    document = {"assignment_id": "a1", "student_prompt_storage_id": "9f", "prompt_text": text}
    server.respond("GET /admin/v1/student-prompts/assignment/a1", Told(document))
    shown = admin("prompts", "get", "a1")
    assert shown.out.endswith("Student prompt:\nSkriv ett brev.\n\tÄrligt [bold]!\n")
    written = admin("prompts", "get", "a1", "--output-file", "deep/er/task.txt")
    assert (tmp_path / "deep/er/task.txt").read_bytes() == text.encode()
    assert "9f" in written.out
    assert "brev" not in written.out
    failed = admin("prompts", "get", "a1", "--output-file", "deep/er/task.txt/no")
    assert (failed.code, "cannot write" in failed.err) == (1, True)


def test_output_without_a_terminal_is_plain_text(admin: Admin, server: Answering) -> None:
    document = {
        "assignment_id": "a1",
        "tag": "i3-41.p0.r0",
        "readiness": READINESS,
        "instructions": {**COMPONENT, "grade_scale": "swedish_8_anchor", "text": TEXT},
        "student_prompt": {**COMPONENT, "deleted": True, "actor": "[red]\x1b[2J"},
        "judge_rubric": None,
    }
    server.respond("GET /admin/v1/assignments/a1", Told(document))
    item = {**COMPONENT, "scope_key": "assignment:a1", "grade_scale": "s", "readiness": READINESS}
    item |= {"updated_at": "now", "updated_by": "anna", "text_state": "missing"}
    listing = Told({"total": 1, "items": [item]})
    server.respond(f"GET {INSTRUCTIONS}?page=1&page_size=20", listing)
    shown, listed = admin("assignments", "show", "a1").out, admin("instructions", "list").out
    assert "instructions\tlive\t3\t2030-01-15T09:30:00.000Z\tanna\tt/2@41\t" in shown
    assert "student prompt\tdeleted\t3\t2030-01-15T09:30:00.000Z\t[red]\ufffd[2J\t" in shown
    assert f"Instructions:\n{TEXT}\n" in shown
    assert listed == "assignment:a1\ts\tmissing\tyes\t-\tyes\t3\tnow\tanna\n"
    assert "\x1b" not in shown


def test_scales_are_listed_without_a_call(admin: Admin, server: Answering) -> None:
    ended = admin("scales", "list", "--json")
    assert server.requests == []
    assert [scale["id"] for scale in ended.document["items"]] == [
        "eng5_np_legacy_9_step",
        "eng5_np_national_9_step",
        "swedish_8_anchor",
    ]
    assert set(ended.document["items"][0]) == {
        *("id", "display_name", "description", "grades", "priors"),
        *("allows_below_lowest", "below_lowest_grade"),
    }
    assert "swedish_8_anchor\t" in admin("scales", "list").out


LOGIN = "POST /v1/auth/login"
REFRESH = "POST /v1/auth/refresh"
SHOW = "GET /admin/v1/assignments/a1"
SHOWN = Told({"readiness": READINESS})


def login(admin: Admin, *more: str, **variables: str) -> Ended:
    return admin(
        *("login", "--email", "anna@example.org", "--password-stdin", *more),
        stdin=f"{PASSWORD}\n",
        CJ_ADMIN_TOKEN=None,
        **variables,
    )


def test_a_login_is_remembered_until_logout(
    admin: Admin, server: Answering, tmp_path: Path
) -> None:
    token = hs256(sub="anna", exp=int(time.time()) + 600)
    server.respond(LOGIN, Told({"access_token": token, "refresh_token": "r1"}))
    server.respond(SHOW, SHOWN)
    ended = login(admin)
    assert ended.code == 0
    assert "signed in as anna, until " in ended.err
    assert PASSWORD not in ended.out + ended.err
    assert token not in ended.out + ended.err
    assert server.requests[0].body == {"email": "anna@example.org", "password": PASSWORD}
    assert admin("assignments", "show", "a1", "--json", CJ_ADMIN_TOKEN=None).code == 0
    assert server.requests[1].headers["Authorization"] == f"Bearer {token}"
    who = admin("whoami", "--json", CJ_ADMIN_TOKEN=None).document
    assert (who["subject"], who["roles"], who["source"]) == ("anna", ["admin"], "cache")
    assert admin("logout", "--json").document == {"deleted": True}
    assert admin("logout", "--json").document == {"deleted": False}
    assert not (tmp_path / "token.json").exists()
    nobody = admin("whoami", "--json", CJ_ADMIN_TOKEN=None)
    assert (nobody.code, nobody.document["exit_code"]) == (1, 1)


def test_with_no_cache_the_token_is_printed_and_not_stored(
    admin: Admin, server: Answering, tmp_path: Path
) -> None:
    server.respond(LOGIN, Told({"access_token": TOKEN}))
    assert login(admin, "--no-cache").out == f"{TOKEN}\n"
    assert login(admin, "--no-cache", "--json").document["token"] == TOKEN
    assert not (tmp_path / "token.json").exists()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem("bad-credentials", 401), 1),
        (problem("down", 503), 4),
        (Told({"token": "somewhere else"}), 1),
        (Told({"access_token": "two words"}), 1),
        (Told([]), 1),
    ],
    ids=["refused", "down", "no token", "no header", "no object"],
)
def test_a_failed_login_stores_nothing(
    admin: Admin, server: Answering, tmp_path: Path, answer: Told, code: int
) -> None:
    server.respond(LOGIN, answer)
    ended = login(admin, "--json")
    assert ended.code == code
    assert ended.document["title"]
    assert PASSWORD not in ended.out + ended.err
    assert not (tmp_path / "token.json").exists()


def sign_in(admin: Admin, server: Answering, **reply: Any) -> str:
    """Sign in and return the token."""
    token: str = reply.setdefault("access_token", hs256(exp=int(time.time()) + 600))
    server.respond(LOGIN, Told(reply))
    assert login(admin).code == 0
    server.requests.clear()
    return token


def test_an_expired_token_is_renewed_before_the_call_and_the_refresh_token_stays(
    admin: Admin, server: Answering, tmp_path: Path
) -> None:
    sign_in(admin, server, access_token=hs256(exp=int(time.time()) + 20), refresh_token="r1")
    newer = hs256(sub="newer", exp=int(time.time()) + 600)
    server.respond(REFRESH, Told({"access_token": newer}))
    server.respond(SHOW, SHOWN)
    for _ in range(2):
        assert admin("assignments", "show", "a1", "--json", CJ_ADMIN_TOKEN=None).code == 0
    assert server.routes == [REFRESH, SHOW, SHOW]
    assert server.requests[0].body == {"refresh_token": "r1"}
    assert {request.headers["Authorization"] for request in server.requests[1:]} == {
        f"Bearer {newer}"
    }
    cached = json.loads((tmp_path / "token.json").read_text())
    assert (cached["access_token"], cached["refresh_token"]) == (newer, "r1")


def test_a_refused_token_is_renewed_once(admin: Admin, server: Answering) -> None:
    sign_in(admin, server, refresh_token="r1")
    server.respond(REFRESH, Told({"access_token": hs256(sub="newer"), "refresh_token": "r2"}))
    server.respond(SHOW, problem("unauthenticated", 401), SHOWN)
    assert admin("assignments", "show", "a1", "--json", CJ_ADMIN_TOKEN=None).code == 0
    assert server.routes == [SHOW, REFRESH, SHOW]
    server.requests.clear()
    server.respond(SHOW, problem("unauthenticated", 401))
    assert admin("assignments", "show", "a1", "--json", CJ_ADMIN_TOKEN=None).code == 1
    assert server.routes == [SHOW, REFRESH, SHOW]
    assert server.requests[1].body == {"refresh_token": "r2"}


@pytest.mark.parametrize(("answer", "code"), [(problem("no", 401), 1), (problem("down", 503), 4)])
def test_a_failed_renewal_ends_the_command(
    admin: Admin, server: Answering, answer: Told, code: int
) -> None:
    sign_in(admin, server, access_token="opaque", expires_in=0, refresh_token="r1")
    server.respond(REFRESH, answer)
    ended = admin(
        *("assignments", "show", "a1", "--json"),
        CJ_ADMIN_TOKEN=None,
        CJSTREAM_ENVIRONMENT="development",
    )
    assert ended.code == code
    assert set(server.routes) == {REFRESH}


def test_a_refused_token_from_the_environment_is_not_renewed(
    admin: Admin, server: Answering
) -> None:
    sign_in(admin, server, refresh_token="r1")
    server.respond(SHOW, problem("unauthenticated", 401))
    assert admin("assignments", "show", "a1", "--json").code == 1
    assert server.routes == [SHOW]
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "elsewhere",
    [{"CJ_ADMIN_BASE_URL": "http://127.0.0.1:9"}, {"IDENTITY_BASE_URL": "http://127.0.0.1:9"}],
    ids=["another API", "another identity service"],
)
def test_a_cached_token_is_not_sent_to_another_service(
    admin: Admin, server: Answering, elsewhere: dict[str, str]
) -> None:
    sign_in(admin, server, refresh_token="r1")
    ended = admin("whoami", "--json", CJ_ADMIN_TOKEN=None, **elsewhere)
    assert (ended.code, server.requests) == (1, [])


def test_a_token_with_invalid_characters_is_refused(admin: Admin, server: Answering) -> None:
    ended = admin("whoami", CJ_ADMIN_TOKEN="a\nX-Other: b")
    assert (ended.code, server.requests) == (2, [])
    assert "X-Other" not in ended.err


def test_a_dev_token_is_printed_alone_and_only_in_development(
    admin: Admin, server: Answering, tmp_path: Path
) -> None:
    development = {"CJ_ADMIN_TOKEN": None, "CJSTREAM_ENVIRONMENT": "development"}
    token = admin("token", "dev", **development).out
    assert (token.count("."), token.count("\n")) == (2, 1)
    who = admin("whoami", "--json", CJ_ADMIN_TOKEN=token).document
    assert (who["subject"], who["roles"], who["source"]) == (
        "dev-admin",
        ["admin"],
        "CJ_ADMIN_TOKEN",
    )
    assert admin("whoami", "--json", **development).document["source"] == "development"
    command = ("token", "dev", "--subject", "eva", "--role", "auditor", "--role", "service")
    eva = admin(*command, "--json", "--cache", "--ttl", "30m", **development).document
    assert (eva["subject"], eva["roles"]) == ("eva", ["auditor", "service"])
    cached = admin("whoami", "--json", CJ_ADMIN_TOKEN=None).document
    assert (cached["subject"], cached["source"]) == ("eva", "cache")
    assert admin("token", "dev").code == 1
    assert admin("token", "dev", JWT_ALGORITHM="RS256", **development).code == 1


def run_at_a_terminal(
    environ: Mapping[str, str], typed: Mapping[str, str], *arguments: str
) -> tuple[int, str]:
    """Run the command on a terminal and type an answer when each prompt appears; returns exit code and screen."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "tools", "admin", *arguments]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    )
    os.close(theirs)
    screen, waiting = b"", dict(typed)

    def has_ended() -> bool:
        nonlocal screen
        try:
            if select([ours], [], [], 0.05)[0]:
                screen += os.read(ours, 4096)
        except OSError:  # no process has the other side open
            return process.poll() is not None
        for prompt in [prompt for prompt in waiting if prompt.encode() in screen]:
            os.write(ours, waiting.pop(prompt).encode())
        return False

    try:
        until(has_ended)
    finally:
        process.kill()
        os.close(ours)
    return process.wait(), screen.decode()


def test_a_password_is_asked_for_and_never_shown(
    environ: dict[str, str], server: Answering
) -> None:
    server.respond(LOGIN, Told({"access_token": hs256(sub="anna")}))
    typed = {"E-mail: ": "anna@example.org\n", "Password: ": f"{PASSWORD}\n"}
    code, screen = run_at_a_terminal(environ, typed, "login")
    assert (code, "signed in as anna" in screen) == (0, True)
    assert PASSWORD not in screen
    assert server.requests[0].body == {"email": "anna@example.org", "password": PASSWORD}


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
def test_delete_asks_first_and_says_what_else_is_deleted(
    environ: dict[str, str], server: Answering, answer: str, code: int
) -> None:
    route = f"DELETE {INSTRUCTIONS}/assignment/a1"
    server.respond(route, Told({"status": "deleted", "assignment_id": "a1", "deleted": ["x"]}))
    typed = {"Delete? [y/N]: ": answer}
    ended, screen = run_at_a_terminal(
        environ, typed, "instructions", "delete", "--assignment-id", "a1"
    )
    assert ended == code, screen
    assert "assignment a1, with its student prompt and its judge rubric" in " ".join(screen.split())
    assert server.routes == ([route] if code == 0 else [])


def test_instructions_are_read_from_a_terminal_to_the_end_of_input(
    environ: dict[str, str], server: Answering
) -> None:
    server.respond(f"POST {INSTRUCTIONS}", Told({**WRITTEN, "scope_key": "assignment:a1"}))
    typed = {"(Ctrl-D):": f"{TEXT}\n\x04"}
    create = ["instructions", "create", "--assignment-id", "a1"]
    code, screen = run_at_a_terminal(environ, typed, *create, "--grade-scale", "swedish_8_anchor")
    assert code == 0, screen
    assert server.requests[0].body["instructions_text"] == TEXT


def test_a_terminal_shows_tables_and_with_no_color_no_colours(
    environ: dict[str, str],
) -> None:
    environ["TERM"] = "xterm-256color"
    code, screen = run_at_a_terminal({**environ, "NO_COLOR": "1"}, {}, "scales", "list")
    assert (code, "┃" in screen) == (0, True)
    assert not COLOUR.search(screen)


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['cjstream', '--help']\n"
        "from tools.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'httpx', 'jwt', 'cryptography', 'fastapi', 'uvicorn', 'confluent_kafka', 'faust'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
