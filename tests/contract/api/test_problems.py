"""Every problem of the contract, driven through the real application: status, members, headers, nothing repeated."""

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
    made_api,
    new,
)
from tests.support.builders import prompt_uploaded, sha256_of
from tests.support.tokens import hs256
from tools.api.auth.authentication import KeysUnavailable
from tools.api.errors.problems import KINDS

SECRET = "xyzzy"  # in every request; in no answer


def problem(answer: httpx.Response, slug: str) -> dict[str, Any]:
    """The members beside the standard ones, which are checked here."""
    found: dict[str, Any] = answer.json()
    kind = KINDS[slug]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert found.pop("type") == f"urn:cjstream:problem:{slug}"
    assert (answer.status_code, found.pop("status")) == (kind.status, kind.status)
    assert found.pop("title") == kind.title
    assert found.pop("instance") == answer.request.url.path
    assert found.pop("correlation_id") == answer.headers["x-correlation-id"]
    assert found.pop("detail")
    assert SECRET not in answer.text
    return found


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", "line 1, column 1"),
        (b'{"a": xyzzy}', "line 1, column 7"),
        (b'{\n "a": "xyzzy",\n "a": 1}', "line 1, column 1"),
        (b'{"a": NaN}', "line 1, column 1"),
        (b"[" * 100_000, "line 1, column 1"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 1, column 1"),
        (b'{\n"a": "\xff"}', "line 2, column 7"),
        (b'{"a": "xyzzy', "line 1, column 7"),
        (b'{"a": "b\nc"}', "line 1, column 9"),
    ],
)
def test_what_is_no_json_is_malformed(api: Api, content: bytes, where: str) -> None:
    answer = api("POST", INSTRUCTIONS, content=content)
    assert problem(answer, "malformed-request") == {"where": where}


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["3-41", '"3-41" "4-2"', '"xyzzy"', '"3-41', "", ",", '"*"'])
def test_a_condition_that_cannot_be_parsed_is_malformed(api: Api, header: str, value: str) -> None:
    answer = api("DELETE", A1, **{header: value})
    assert problem(answer, "malformed-request") == {"where": header}


@pytest.mark.parametrize("path", [f"{INSTRUCTIONS}/assignment/%ff", f"{INSTRUCTIONS}?page=%ff"])
def test_a_path_or_query_that_is_not_utf8_is_malformed(api: Api, path: str) -> None:
    where = "query" if "?" in path else "path"
    assert problem(api("GET", path), "malformed-request") == {"where": where}


def test_a_parameter_given_twice_is_malformed(api: Api) -> None:
    answer = api("GET", f"{INSTRUCTIONS}?page=1&page=2")
    assert problem(answer, "malformed-request") == {"where": "query"}


def test_no_token_is_unauthenticated(api: Api) -> None:
    answer = api("GET", A1, token=None)
    assert problem(answer, "unauthenticated") == {"reason": "missing_authorization_header"}
    assert answer.headers["www-authenticate"] == 'Bearer realm="cjstream"'
    reason = {"reason": "missing_authorization_header"}
    assert api.metric("cj_admin_auth_failures_total", **reason) == 1


def test_a_bad_token_is_unauthenticated(api: Api) -> None:
    answer = api("GET", A1, token=SECRET)
    assert problem(answer, "unauthenticated") == {"reason": "invalid_token"}
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("method", "path", "roles"),
    [
        ("POST", INSTRUCTIONS, ["admin"]),
        ("GET", INSTRUCTIONS, ["admin"]),
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
    ],
)
def test_a_role_that_is_missing_is_forbidden(
    api: Api, method: str, path: str, roles: list[str]
) -> None:
    for role in {"admin", "auditor", "service", "other"} - set(roles):
        answer = api(method, path, token=hs256(roles=[role]))
        assert problem(answer, "forbidden") == {"required_roles": roles}
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    for role in roles:
        assert api(method, path, token=hs256(roles=[role])).status_code != 403


def test_what_is_not_there_is_not_found(api: Api) -> None:
    told = {"resource_id": "a1", "deleted": False}
    of_assignment = {"resource_type": "assessment_instruction", **told}
    assert problem(api("GET", A1), "resource-not-found") == of_assignment
    assert problem(api("PATCH", A1, {}), "resource-not-found") == of_assignment
    assert problem(api("DELETE", A1), "resource-not-found") == of_assignment
    assert problem(api("GET", PROMPT), "resource-not-found") == of_assignment
    upload = api("POST", f"{ADMIN}/judge-rubrics", {"assignment_id": "a1", "rubric_text": TEXT})
    assert problem(upload, "resource-not-found") == of_assignment
    of_prompt = {"resource_type": "student_prompt", **told}
    assert problem(api("DELETE", PROMPT), "resource-not-found") == of_prompt
    whole = api("GET", f"{ADMIN}/assignments/a1")
    assert problem(whole, "resource-not-found") == {"resource_type": "assignment", **told}
    course = api("GET", f"{INSTRUCTIONS}/course/ENG5")
    of_course = {"resource_type": "assessment_instruction_course", "resource_id": "ENG5"}
    assert problem(course, "resource-not-found") == {**of_course, "deleted": False}
    an_id = sha256_of(SECRET)
    content = problem(api("GET", f"/v1/content/{an_id}"), "resource-not-found")
    assert content == {"resource_type": "content", "resource_id": an_id, "deleted": False}


def test_what_was_deleted_is_not_found_as_deleted(api: Api) -> None:
    api.given(prompt=True)
    assert api("DELETE", PROMPT).status_code == 200
    found = problem(api("GET", PROMPT), "resource-not-found")
    assert (found["resource_type"], found["deleted"]) == ("student_prompt", True)
    assert api("DELETE", A1).status_code == 200
    for path in (A1, PROMPT, f"{ADMIN}/assignments/a1"):
        assert problem(api("GET", path), "resource-not-found")["deleted"] is True


@pytest.mark.parametrize("path", ["/", "/xyzzy", f"{A1}/", f"{ADMIN}/assignments/a1/past"])
def test_a_path_without_a_route_is_told_as_that(api: Api, path: str) -> None:
    found = api("GET", path)
    assert (found.status_code, found.json()["type"][21:]) == (404, "route-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", INSTRUCTIONS, "GET, POST"),
        ("POST", A1, "GET, PUT, PATCH, DELETE"),
        ("TRACE", A1, "GET, PUT, PATCH, DELETE"),
        ("OPTIONS", f"{ADMIN}/grade-scales", "GET"),
        ("DELETE", "/v1/content", "POST"),
        ("DELETE", f"/v1/content/{'0' * 64}", "GET, HEAD"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_another_method_is_refused_with_those_there_are(
    api: Api, method: str, path: str, allowed: str
) -> None:
    answer = api(method, path, token=None)
    assert problem(answer, "method-not-allowed") == {}
    assert answer.headers["allow"] == allowed


def test_what_a_gap_hides_is_compacted(api: Api) -> None:
    api.given(prompt=True)
    for number in (2, 3):
        body = {"assignment_id": "a1", "prompt_text": f"{TEXT} {number}"}
        assert api("POST", f"{ADMIN}/student-prompts", body).status_code == 200
    _, first, second, third = (one.at for one in api.log.records)
    api.past.compacted.add(second)
    path = f"{ADMIN}/assignments/a1?as_of="
    found = problem(api("GET", f"{path}{second}"), "history-compacted")
    [gap] = found["gaps"]
    assert (gap["role"], gap["after_version"], gap["before_version"]) == ("student_prompt", 1, 3)
    assert gap["complete_from"]["offset"] == third.offset
    assert [api("GET", f"{path}{at}").status_code for at in (first, third)] == [200, 200]
    history = api("GET", f"{ADMIN}/assignments/a1/history").json()
    assert (history["complete"], history["gaps"]) == (False, [gap])


def test_a_fixed_field_cannot_change(api: Api) -> None:
    api.given()
    answer = api("POST", INSTRUCTIONS, new(grade_scale="eng5_np_national_9_step"))
    told = {"field": "grade_scale", "current": "swedish_8_anchor"}
    assert problem(answer, "immutable-field") == told
    answer = api("PATCH", A1, {"context_origin": "canonical_national"})
    assert problem(answer, "immutable-field")["field"] == "context_origin"


def test_another_version_is_a_mismatch_with_the_present_tag(api: Api) -> None:
    api.given()
    answer = api("PUT", A1, new(), If_Match='"1-77", W/"1-0"')
    told = {"expected": "1-77", "current_version": 1, "current_tag": "1-0"}
    assert problem(answer, "version-mismatch") == told
    assert answer.headers["etag"] == '"1-0"'
    assert api.metric("cj_admin_precondition_failures_total", role="instructions") == 1
    answer = api(
        "POST",
        f"{ADMIN}/student-prompts",
        {"assignment_id": "a1", "prompt_text": TEXT},
        If_Match="*",
    )
    told = {"expected": "*", "current_version": 0, "current_tag": "0"}
    assert problem(answer, "version-mismatch") == told


def test_a_condition_may_be_required(tmp_path: Path) -> None:
    api = made_api(tmp_path, require_if_match=True)
    answer = api("POST", INSTRUCTIONS, new())
    told = {"current_version": 0, "current_tag": "0"}
    assert problem(answer, "precondition-required") == told
    assert answer.headers["etag"] == '"0"'
    assert api("POST", INSTRUCTIONS, new(), If_None_Match="*").status_code == 200


async def chunks(taken: list[int]) -> Any:
    """Far more than is allowed, as fast as it is asked for."""
    for number in range(1000):
        taken.append(number)
        yield b"x" * 65_536


def test_a_body_of_2_mb_is_too_large_whether_or_not_its_length_is_told(api: Api) -> None:
    answer = api("POST", INSTRUCTIONS, content=b"x" * 2_000_000)
    assert problem(answer, "payload-too-large") == {"limit_bytes": 1_048_576}
    answer = api("POST", INSTRUCTIONS, content=chunks(taken := list[int]()))
    assert "content-length" not in answer.request.headers
    assert problem(answer, "payload-too-large") == {"limit_bytes": 1_048_576}
    assert len(taken) == 17  # nothing is read after the first byte too many
    answer = api("POST", "/v1/content", content=chunks([]))
    assert problem(answer, "payload-too-large") == {"limit_bytes": 1_048_576}


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        ("POST", "text/plain"),
        ("POST", "application/merge-patch+json"),
        ("POST", "application/json; charset=latin-1"),
        ("PATCH", "application/json-patch+json"),
        ("POST", "xyzzy"),
    ],
)
def test_another_media_type_is_refused(api: Api, method: str, sent: str) -> None:
    path = A1 if method == "PATCH" else INSTRUCTIONS
    answer = api(method, path, content=b"{}", content_type=sent)
    supported = ["application/json"] + ["application/merge-patch+json"] * (method == "PATCH")
    assert problem(answer, "unsupported-media-type") == {"supported": supported}


def test_a_range_past_the_end_is_not_satisfiable(api: Api) -> None:
    an_id = api("POST", "/v1/content", content=b"0123456789").json()["storage_id"]
    answer = api("GET", f"/v1/content/{an_id}", Range="bytes=10-")
    assert problem(answer, "range-not-satisfiable") == {"size_bytes": 10}


def test_values_that_break_rules_are_listed_all_at_once(api: Api) -> None:
    answer = api(
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
    found = problem(answer, "validation-failed")
    told = {(fault["location"], fault["code"]) for fault in found["errors"]}
    assert told == {
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
    limits = {fault["location"]: fault.get("limit") for fault in found["errors"]}
    assert limits["path/assignment_id"] == 100
    assert limits["body/instructions_text"] == 10


def test_too_many_requests_of_one_subject_are_refused(tmp_path: Path) -> None:
    api = made_api(tmp_path, rate_limit_per_minute=2)
    assert [api("GET", A1).status_code for _ in range(2)] == [404, 404]
    answer = api("GET", A1)
    assert problem(answer, "rate-limited") == {}
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert api("GET", A1, token=hs256(sub="berit")).status_code == 404
    assert api("GET", A1, token=hs256(roles=[])).status_code == 403  # roles come before the rate


def test_a_bug_is_an_internal_error_that_tells_nothing(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.log.faults = [ZeroDivisionError(SECRET)]
    answer = api("GET", A1, X_Correlation_ID=CORRELATION)
    assert problem(answer, "internal-error") == {}
    assert answer.headers["x-correlation-id"] == CORRELATION
    assert [r.exc_info is not None for r in caplog.records if r.msg == "unexpected_error"] == [True]


LATE = {  # a fault of the log or the store: its problem, more members, and whether it says when to retry
    "replica-behind": (ReplicaBehind("behind"), {}, True),
    "log-unavailable": (Unreachable("Kafka"), {}, True),
    "writer-contended": (WriterContended("contended"), {}, True),
    "outcome-unknown": (OutcomeUnknown("assignment:a1"), {"scope_key": "assignment:a1"}, False),
    "content-unavailable": (ContentUnreachable("nobody"), {}, True),
    "content-timeout": (ContentTimeout("late"), {}, False),
    "content-backend-error": (ContentFailed("disk", "0" * 64), {"storage_id": "0" * 64}, False),
    "auth-keys-unavailable": (KeysUnavailable(7), {}, True),
}


@pytest.mark.parametrize("slug", LATE)
def test_a_fault_of_what_the_api_rests_on_is_told_as_that(api: Api, slug: str) -> None:
    fault, members, may_retry = LATE[slug]
    api.log.faults = [fault]
    answer = api("POST", INSTRUCTIONS, new())
    assert problem(answer, slug) == members
    assert ("retry-after" in answer.headers) == may_retry


def stored_file(api: Api) -> Path:
    [found] = (one for one in api.folder.rglob(sha256_of(TEXT)) if one.is_file())
    return found


def test_a_text_that_the_store_lacks_is_missing(api: Api) -> None:
    api.given()
    stored_file(api).unlink()
    for path in (A1, INSTRUCTIONS, f"{ADMIN}/assignments/a1"):
        assert problem(api("GET", path), "content-missing") == {"storage_id": sha256_of(TEXT)}
    assert api("GET", f"{ADMIN}/assignments/a1?texts=false").status_code == 200


def test_a_text_that_is_damaged_is_corrupt(api: Api) -> None:
    api.given()
    stored_file(api).write_bytes(b"something else")
    assert problem(api("GET", A1), "content-corrupt") == {"storage_id": sha256_of(TEXT)}


def test_a_foreign_storage_id_is_a_missing_text(api: Api) -> None:
    api.given()
    api.log.append(prompt_uploaded(storage_id="their-id"), "assignment:a1")
    assert problem(api("GET", PROMPT), "content-missing") == {"storage_id": "their-id"}


def test_a_store_without_a_place_to_write_fails_and_nothing_is_appended(tmp_path: Path) -> None:
    blocked = tmp_path / "content"
    api = made_api(tmp_path / "data", content_url=blocked.as_uri())
    (blocked / "sha256").write_text("a file where a folder is to be")
    answer = api("POST", INSTRUCTIONS, new())
    assert problem(answer, "content-backend-error") == {"storage_id": sha256_of(TEXT)}
    assert api.log.rows == {}


def test_every_problem_of_the_contract_is_driven_here() -> None:
    driven = Path(__file__).read_text()
    assert [slug for slug in KINDS if f'"{slug}"' not in driven] == []
