"""Every problem of the contract, caused in the real application: status, members and headers; no value is repeated."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.errors import (
    ContentFailed,
    ContentTimeout,
    ContentUnreachable,
    OutcomeUnknown,
    ReplicaBehind,
    Unreachable,
    WriterContended,
)
from tests.contract.api.calling import (
    A1,
    ADMIN,
    AUDIT,
    CORRELATION,
    INSTRUCTIONS,
    PROMPT,
    RUBRIC,
    TEXT,
    Api,
    make_api,
    new,
)
from tests.support.builders import prompt_uploaded, sha256_of
from tests.support.tokens import hs256
from tools.api.app import REQUESTS, REQUESTS_OF_SUBJECT
from tools.api.auth.authentication import KeysUnavailable
from tools.api.errors.problems import KINDS

SECRET = "xyzzy"  # sent in many requests; must not be in any response


def problem(response: httpx.Response, slug: str) -> dict[str, Any]:
    """Check the standard members and return the additional ones."""
    members: dict[str, Any] = response.json()
    kind = KINDS[slug]
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert members.pop("type") == f"urn:cjstream:problem:{slug}"
    assert (response.status_code, members.pop("status")) == (kind.status, kind.status)
    assert members.pop("title") == kind.title
    assert members.pop("instance") == response.request.url.path
    assert members.pop("correlation_id") == response.headers["x-correlation-id"]
    assert members.pop("detail")
    assert SECRET not in response.text
    return members


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", "line 1, column 1"),
        (b'{"a": xyzzy}', "line 1, column 7"),
        (b'{\n "a": "xyzzy",\n "a": 1}', "line 1, column 1"),
        (b'{"a": NaN}', "line 1, column 1"),
        (b"[" * 100_000, "line 1, column 1"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(1001)) + b"}", "line 1, column 1"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 1, column 1"),
        (b'{\n"a": "\xff"}', "line 2, column 7"),
        (b'{"a": "xyzzy', "line 1, column 7"),
        (b'{"a": "b\nc"}', "line 1, column 9"),
    ],
)
def test_invalid_json_is_malformed(api: Api, content: bytes, where: str) -> None:
    response = api("POST", INSTRUCTIONS, content=content)
    assert problem(response, "malformed-request") == {"where": where}


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["3-41", '"3-41" "4-2"', '"xyzzy"', '"3-41', "", ",", '"*"'])
def test_a_condition_that_cannot_be_parsed_is_malformed(api: Api, header: str, value: str) -> None:
    response = api("DELETE", A1, **{header: value})
    assert problem(response, "malformed-request") == {"where": header}


@pytest.mark.parametrize("path", [f"{INSTRUCTIONS}/assignment/%ff", f"{INSTRUCTIONS}?page=%ff"])
def test_a_path_or_query_that_is_not_utf8_is_malformed(api: Api, path: str) -> None:
    where = "query" if "?" in path else "path"
    assert problem(api("GET", path), "malformed-request") == {"where": where}


def test_a_repeated_parameter_is_malformed(api: Api) -> None:
    response = api("GET", f"{INSTRUCTIONS}?page=1&page=2")
    assert problem(response, "malformed-request") == {"where": "query"}


def test_a_request_without_a_token_is_unauthenticated(api: Api) -> None:
    response = api("GET", A1, token=None)
    assert problem(response, "unauthenticated") == {"reason": "missing_authorization_header"}
    assert response.headers["www-authenticate"] == 'Bearer realm="cjstream"'
    reason = {"reason": "missing_authorization_header"}
    assert api.metric("cj_admin_auth_failures_total", **reason) == 1


def test_a_request_with_an_invalid_token_is_unauthenticated(api: Api) -> None:
    response = api("GET", A1, token=SECRET)
    assert problem(response, "unauthenticated") == {"reason": "invalid_token"}
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("method", "path", "roles"),
    [
        ("POST", INSTRUCTIONS, ["admin"]),
        ("GET", INSTRUCTIONS, ["admin", "auditor"]),
        ("GET", PROMPT, ["admin"]),
        ("DELETE", RUBRIC, ["admin"]),
        ("POST", f"{ADMIN}/assignments", ["admin"]),
        ("GET", f"{ADMIN}/assignments/a1", ["admin", "auditor"]),
        ("GET", f"{ADMIN}/assignments/a1/history", ["admin", "auditor"]),
        ("GET", f"{AUDIT}/scopes/assignment:a1/as-of?at=0s", ["admin", "auditor"]),
        ("GET", f"{AUDIT}/scopes/assignment:a1/history", ["admin", "auditor"]),
        ("GET", f"{AUDIT}/batches?batch_id=b1", ["admin", "auditor"]),
        ("GET", f"{AUDIT}/replay", ["admin", "auditor"]),
        ("GET", f"{AUDIT}/verify", ["admin", "auditor"]),
        ("GET", f"{ADMIN}/assignments/a1/readiness", ["admin", "auditor", "service"]),
        ("GET", f"{ADMIN}/grade-scales", ["admin", "auditor", "service"]),
        ("GET", f"/v1/content/{'0' * 64}", ["admin", "auditor", "service"]),
        ("POST", "/v1/content", ["admin", "service"]),
        ("POST", "/v1/judges/check", ["admin", "auditor", "service"]),
    ],
)
def test_a_caller_without_a_required_role_is_forbidden(
    api: Api, method: str, path: str, roles: list[str]
) -> None:
    for role in {"admin", "auditor", "service", "other"} - set(roles):
        response = api(method, path, token=hs256(roles=[role]))
        assert problem(response, "forbidden") == {"required_roles": roles}
        assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
    for role in roles:
        assert api(method, path, token=hs256(roles=[role])).status_code != 403


def test_a_missing_resource_is_not_found(api: Api) -> None:
    members = {"resource_id": "a1", "deleted": False}
    of_assignment = {"resource_type": "assessment_instruction", **members}
    assert problem(api("GET", A1), "resource-not-found") == of_assignment
    assert problem(api("PATCH", A1, {}), "resource-not-found") == of_assignment
    assert problem(api("DELETE", A1), "resource-not-found") == of_assignment
    assert problem(api("GET", PROMPT), "resource-not-found") == of_assignment
    upload = api("POST", f"{ADMIN}/judge-rubrics", {"assignment_id": "a1", "rubric_text": TEXT})
    assert problem(upload, "resource-not-found") == of_assignment
    of_prompt = {"resource_type": "student_prompt", **members}
    assert problem(api("DELETE", PROMPT), "resource-not-found") == of_prompt
    assignment = api("GET", f"{ADMIN}/assignments/a1")
    assert problem(assignment, "resource-not-found") == {"resource_type": "assignment", **members}
    course = api("GET", f"{INSTRUCTIONS}/course/ENG5")
    of_course = {"resource_type": "assessment_instruction_course", "resource_id": "ENG5"}
    assert problem(course, "resource-not-found") == {**of_course, "deleted": False}
    storage_id = sha256_of(SECRET)
    content = problem(api("GET", f"/v1/content/{storage_id}"), "resource-not-found")
    assert content == {"resource_type": "content", "resource_id": storage_id, "deleted": False}


def test_a_deleted_resource_is_not_found_and_marked_as_deleted(api: Api) -> None:
    api.create_assignment(prompt=True)
    assert api("DELETE", PROMPT).status_code == 200
    members = problem(api("GET", PROMPT), "resource-not-found")
    assert (members["resource_type"], members["deleted"]) == ("student_prompt", True)
    assert api("DELETE", A1).status_code == 200
    for path in (A1, PROMPT, f"{ADMIN}/assignments/a1"):
        assert problem(api("GET", path), "resource-not-found")["deleted"] is True


@pytest.mark.parametrize("path", ["/xyzzy", f"{A1}/", f"{ADMIN}/assignments/a1/past"])
def test_an_unknown_path_is_reported_as_route_not_found(api: Api, path: str) -> None:
    response = api("GET", path)
    assert (response.status_code, response.json()["type"][21:]) == (404, "route-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", INSTRUCTIONS, "GET, POST"),
        ("POST", A1, "GET, PUT, PATCH, DELETE"),
        ("TRACE", A1, "GET, PUT, PATCH, DELETE"),
        ("OPTIONS", f"{ADMIN}/grade-scales", "GET"),
        ("DELETE", "/v1/content", "POST"),
        ("DELETE", f"/v1/content/{'0' * 64}", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_an_unknown_method_is_refused_and_the_known_methods_are_listed(
    api: Api, method: str, path: str, allowed: str
) -> None:
    response = api(method, path, token=None)
    assert problem(response, "method-not-allowed") == {}
    assert response.headers["allow"] == allowed


def test_a_state_that_a_gap_hides_is_reported_as_compacted(api: Api) -> None:
    api.create_assignment(prompt=True)
    for number in (2, 3):
        body = {"assignment_id": "a1", "prompt_text": f"{TEXT} {number}"}
        assert api("POST", f"{ADMIN}/student-prompts", body).status_code == 200
    _, first, second, third = (record.at for record in api.log.records)
    api.audit.compacted.add(second)
    path = f"{ADMIN}/assignments/a1?as_of="
    [gap] = problem(api("GET", f"{path}{second}"), "history-compacted")["gaps"]
    assert (gap["role"], gap["after_version"], gap["before_version"]) == ("student_prompt", 1, 3)
    assert gap["complete_from"]["offset"] == third.offset
    assert [api("GET", f"{path}{at}").status_code for at in (first, third)] == [200, 200]
    history = api("GET", f"{ADMIN}/assignments/a1/history").json()
    assert (history["complete"], history["gaps"]) == (False, [gap])


def test_an_immutable_field_cannot_change(api: Api) -> None:
    api.create_assignment()
    response = api("POST", INSTRUCTIONS, new(grade_scale="eng5_np_national_9_step"))
    members = {"field": "grade_scale", "current": "swedish_8_anchor"}
    assert problem(response, "immutable-field") == members
    response = api("PATCH", A1, {"context_origin": "canonical_national"})
    assert problem(response, "immutable-field")["field"] == "context_origin"


def test_another_version_is_a_mismatch_that_names_the_current_etag(api: Api) -> None:
    api.create_assignment()
    response = api("PUT", A1, new(), If_Match='"1-77", W/"1-0"')
    members = {"expected": "1-77", "current_version": 1, "current_tag": "1-0"}
    assert problem(response, "version-mismatch") == members
    assert response.headers["etag"] == '"1-0"'
    assert api.metric("cj_admin_precondition_failures_total", role="instructions") == 1
    response = api(
        "POST",
        f"{ADMIN}/student-prompts",
        {"assignment_id": "a1", "prompt_text": TEXT},
        If_Match="*",
    )
    members = {"expected": "*", "current_version": 0, "current_tag": "0"}
    assert problem(response, "version-mismatch") == members


def test_a_setting_makes_a_condition_required(tmp_path: Path) -> None:
    api = make_api(tmp_path, require_if_match=True)
    response = api("POST", INSTRUCTIONS, new())
    members = {"current_version": 0, "current_tag": "0"}
    assert problem(response, "precondition-required") == members
    assert response.headers["etag"] == '"0"'
    assert api("POST", INSTRUCTIONS, new(), If_None_Match="*").status_code == 200


async def chunks(sent: list[int]) -> Any:
    """Yield a body far larger than the limit; the number of each chunk is appended to `sent`."""
    for number in range(1000):
        sent.append(number)
        yield b"x" * 65_536


def test_a_body_of_2_mb_is_too_large_with_or_without_content_length(api: Api) -> None:
    response = api("POST", INSTRUCTIONS, content=b"x" * 2_000_000)
    assert problem(response, "payload-too-large") == {"limit_bytes": 1_048_576}
    response = api("POST", INSTRUCTIONS, content=chunks(sent := list[int]()))
    assert "content-length" not in response.request.headers
    assert problem(response, "payload-too-large") == {"limit_bytes": 1_048_576}
    assert len(sent) == 17  # reading stops at the chunk that exceeds the limit
    response = api("POST", "/v1/content", content=chunks([]))
    assert problem(response, "payload-too-large") == {"limit_bytes": 1_048_576}


@pytest.mark.parametrize(
    ("method", "media_type"),
    [
        ("POST", "text/plain"),
        ("POST", "application/merge-patch+json"),
        ("POST", "application/json; charset=latin-1"),
        ("PATCH", "application/json-patch+json"),
        ("POST", "xyzzy"),
    ],
)
def test_another_media_type_is_refused(api: Api, method: str, media_type: str) -> None:
    path = A1 if method == "PATCH" else INSTRUCTIONS
    response = api(method, path, content=b"{}", content_type=media_type)
    supported = ["application/json"] + ["application/merge-patch+json"] * (method == "PATCH")
    assert problem(response, "unsupported-media-type") == {"supported": supported}


def test_a_range_after_the_end_is_not_satisfiable(api: Api) -> None:
    storage_id = api("POST", "/v1/content", content=b"0123456789").json()["storage_id"]
    response = api("GET", f"/v1/content/{storage_id}", Range="bytes=10-")
    assert problem(response, "range-not-satisfiable") == {"size_bytes": 10}


def test_all_values_that_break_rules_are_listed_together(api: Api) -> None:
    response = api(
        "PUT",
        f"{INSTRUCTIONS}/assignment/{'x' * 101}?xyzzy+1=1&debug=1",
        {
            "assignment_id": SECRET,
            "instructions_text": SECRET,
            "grade_scale": SECRET,
            "context_origin": None,
            "judge_rubric_storage_id": 7,
            "xyzzy is a text": 1,
            "system_prompt": SECRET,
        },
    )
    errors = problem(response, "validation-failed")["errors"]
    assert {(fault["location"], fault["code"]) for fault in errors} == {
        ("path/assignment_id", "too_long"),
        ("query", "unknown_field"),
        ("query/debug", "unknown_field"),
        ("body/assignment_id", "scope_mismatch"),
        ("body/instructions_text", "too_short"),
        ("body/grade_scale", "unknown_grade_scale"),
        ("body/context_origin", "not_nullable"),
        ("body/judge_rubric_storage_id", "wrong_type"),
        ("body", "unknown_field"),
        ("body/system_prompt", "unknown_field"),
    }
    limits = {fault["location"]: fault.get("limit") for fault in errors}
    assert limits["path/assignment_id"] == 100
    assert limits["body/instructions_text"] == 10


def test_too_many_requests_of_one_subject_are_refused(tmp_path: Path) -> None:
    api = make_api(tmp_path, rate_limit_per_minute=2)
    assert [api("GET", A1).status_code for _ in range(2)] == [404, 404]
    response = api("GET", A1)
    assert problem(response, "rate-limited") == {}
    assert 1 <= int(response.headers["retry-after"]) <= 30
    assert api("GET", A1, token=hs256(sub="berit")).status_code == 404
    assert (
        api("GET", A1, token=hs256(roles=[])).status_code == 403
    )  # roles are checked before the rate


def test_a_bug_is_an_internal_error_without_details(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.log.faults = [ZeroDivisionError(SECRET)]
    response = api("GET", A1, X_Correlation_ID=CORRELATION)
    assert problem(response, "internal-error") == {}
    assert response.headers["x-correlation-id"] == CORRELATION
    [logged] = [record for record in caplog.records if record.msg == "unexpected error"]
    assert logged.exc_info is not None


# slug: the error of the log or the store, the additional members, whether there is a Retry-After header
DEPENDENCY_FAULTS = {
    "replica-behind": (ReplicaBehind("behind"), {}, True),
    "log-unavailable": (Unreachable("Kafka"), {}, True),
    "writer-contended": (WriterContended("contended"), {}, True),
    "outcome-unknown": (OutcomeUnknown("assignment:a1"), {"scope_key": "assignment:a1"}, False),
    "content-unavailable": (ContentUnreachable("nobody"), {}, True),
    "content-timeout": (ContentTimeout("late"), {}, False),
    "content-backend-error": (ContentFailed("disk", "0" * 64), {"storage_id": "0" * 64}, False),
    "auth-keys-unavailable": (KeysUnavailable(), {}, True),
}


@pytest.mark.parametrize("slug", DEPENDENCY_FAULTS)
def test_a_fault_of_a_dependency_is_reported_as_its_problem(api: Api, slug: str) -> None:
    fault, members, may_retry = DEPENDENCY_FAULTS[slug]
    api.log.faults = [fault]
    response = api("POST", INSTRUCTIONS, new())
    assert problem(response, slug) == members
    assert ("retry-after" in response.headers) == may_retry


def stored_file(api: Api) -> Path:
    [path] = (path for path in api.folder.rglob(sha256_of(TEXT)) if path.is_file())
    return path


OF_A1 = {"scope_key": "assignment:a1", "role": "instructions", "storage_id": sha256_of(TEXT)}


def test_a_text_that_is_not_in_the_store_is_missing(api: Api) -> None:
    api.create_assignment()
    stored_file(api).unlink()
    response = api("GET", A1)
    assert problem(response, "content-missing") == OF_A1
    assert response.json()["detail"].startswith("assignment:a1: the text of its instructions ")
    assert api("GET", f"{ADMIN}/assignments/a1?texts=false").status_code == 200


def test_a_damaged_text_is_corrupt(api: Api) -> None:
    api.create_assignment()
    stored_file(api).write_bytes(b"something else")
    assert problem(api("GET", A1), "content-corrupt") == OF_A1


def test_another_producers_storage_id_is_a_missing_text(api: Api) -> None:
    api.create_assignment()
    api.log.append(prompt_uploaded(storage_id="their-id"), "assignment:a1")
    named = {"scope_key": "assignment:a1", "role": "student_prompt", "storage_id": "their-id"}
    assert problem(api("GET", PROMPT), "content-missing") == named


def test_a_store_that_cannot_write_is_reported_and_nothing_is_appended(tmp_path: Path) -> None:
    blocked = tmp_path / "content"
    api = make_api(tmp_path / "data", content_url=blocked.as_uri())
    (blocked / "sha256").write_text("a file instead of a folder")
    response = api("POST", INSTRUCTIONS, new())
    assert problem(response, "content-backend-error") == {"storage_id": sha256_of(TEXT)}
    assert api.log.rows == {}


def test_too_many_requests_of_one_subject_in_progress_are_refused(api: Api) -> None:
    in_progress = api.app.state.dependencies.requests
    with ExitStack() as others:
        for _ in range(REQUESTS_OF_SUBJECT):
            others.enter_context(in_progress.one("anna"))
        refused = api("GET", A1)
        assert problem(refused, "too-many-in-progress") == {}
        assert refused.headers["retry-after"] == "1"
        of_another = api("GET", A1, token=hs256(sub="berta"))
        assert of_another.status_code == 404
        for number in range(in_progress.total, REQUESTS):
            others.enter_context(in_progress.one(f"{number}"))
        assert problem(api("GET", A1, token=hs256(sub="berta")), "too-many-in-progress") == {}
        assert api("GET", "/healthz", token=None).status_code == 200
    assert in_progress.total == 0
    assert api("GET", A1).status_code == 404


def test_overrides_cannot_be_checked_without_a_judge(api: Api) -> None:
    assert problem(api("POST", "/v1/judges/check", {}), "judge-not-configured") == {}


# of a connection: tested in test_connections.py
OF_CONNECTIONS = ("request-timeout", "too-many-connections")


def test_a_gate_that_is_closed_says_what_is_missing(api: Api) -> None:
    response = api("GET", f"{ADMIN}/assignments/a1/gate?pipeline=nlp")
    assert problem(response, "prompt-prerequisite") == {
        "assignment_id": "a1",
        "pipeline": "nlp",
        "missing": ["instructions", "student_prompt"],
        "required": ["instructions", "student_prompt"],
        "tag": response.json()["tag"],
    }


def test_every_problem_of_the_contract_is_tested_here() -> None:
    source = Path(__file__).read_text()
    assert [slug for slug in KINDS if f'"{slug}"' not in source] == []
