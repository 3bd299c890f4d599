"""Requests and responses of the admin routes, as the API contract defines them."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api.calling import (
    A1,
    ADMIN,
    CORRELATION,
    INSTRUCTIONS,
    PROMPT,
    RUBRIC,
    SCALE,
    TASK,
    TEXT,
    WEIGHTS,
    Api,
    make_api,
    new,
)
from tests.support.builders import instructions_uploaded, prompt_uploaded, sha256_of
from tests.support.tokens import hs256

COURSE = f"{INSTRUCTIONS}/course/ENG5"
ASSIGNMENTS = f"{ADMIN}/assignments"
READINESS = f"{ADMIN}/assignments/a1/readiness"
OTHER = "Judge how well the parts hang together."


def codes(api: Api, body: Any, path: str = INSTRUCTIONS, method: str = "POST") -> dict[str, str]:
    """The codes of the faults in a body, by location."""
    response = api(method, path, body)
    assert response.status_code == 422, response.text
    return {fault["location"]: fault["code"] for fault in response.json()["errors"]}


def test_instructions_are_created_and_read_and_the_same_write_again_changes_nothing(
    api: Api,
) -> None:
    created = api("POST", INSTRUCTIONS, new(), X_Correlation_ID=CORRELATION)
    document = created.json()
    assert (created.status_code, document["outcome"]) == (200, "created")
    assert created.headers["etag"] == '"1-0"'
    [at] = document["position"]
    assert created.headers["x-position"] == f"{at['topic']}/{at['partition']}@{at['offset']}"
    read = api("GET", A1)
    assert read.headers["etag"] == '"1-0"'
    added = {"outcome", "outcomes", "folded", "position"}
    assert read.json() == {name: value for name, value in document.items() if name not in added}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["created_at"])
    assert (document["updated_by"], document["storage_id"]) == ("anna", sha256_of(TEXT))
    context = api.log.rows["assignment:a1"]
    assert context.instructions is not None
    assert context.instructions.correlation_id == CORRELATION
    again = api("POST", INSTRUCTIONS, new())
    assert again.json()["outcome"] == "unchanged"
    assert again.headers["x-position"] == created.headers["x-position"]


def test_put_creates_with_201_and_replaces_with_200(api: Api) -> None:
    body = {"instructions_text": TEXT, "grade_scale": SCALE}
    assert api("PUT", A1, body).status_code == 201
    replaced = api("PUT", A1, {**body, "instructions_text": OTHER, "assignment_id": "a1"})
    assert (replaced.status_code, replaced.json()["outcome"]) == (200, "replaced")
    assert replaced.json()["version"] == 2
    assert api("PUT", COURSE, body).status_code == 201
    course = api("GET", COURSE).json()
    assert (course["course_id"], course["assignment_id"]) == ("ENG5", None)
    assert course["readiness"]["ready"] is None


def test_a_write_that_is_not_folded_in_time_returns_202(api: Api) -> None:
    api.log.folds = False
    late = api("PUT", A1, new())
    assert (late.status_code, late.json()["folded"]) == (202, False)
    assert api.metric("cj_admin_fold_late_total") == 1


def test_texts_and_ids_are_stripped_and_ids_are_normalized_to_nfc(api: Api) -> None:
    body = new("\ufeff  re\u0301sume\u0301\n", instructions_text=f"\ufeff\n {TEXT}\r\nso \t\u00a0")
    document = api("POST", INSTRUCTIONS, body).json()
    assert document["assignment_id"] == "r\u00e9sum\u00e9"
    assert document["instructions_text"] == f"{TEXT}\r\nso"
    assert api("GET", f"{INSTRUCTIONS}/assignment/re%CC%81sum%C3%A9").status_code == 200
    same_id = api("PUT", f"{INSTRUCTIONS}/assignment/re%CC%81sum%C3%A9", body)
    assert same_id.status_code == 200


def test_a_body_may_start_with_a_byte_order_mark(api: Api) -> None:
    content = b'\xef\xbb\xbf{"assignment_id": "a1"}'
    assert api("POST", INSTRUCTIONS, content=content).status_code == 422


@pytest.mark.parametrize(
    ("changes", "location", "code"),
    [
        ({"instructions_text": "absent"}, "body/instructions_text", "required"),
        ({"instructions_text": None}, "body/instructions_text", "not_nullable"),
        ({"instructions_text": 7}, "body/instructions_text", "wrong_type"),
        ({"instructions_text": [TEXT]}, "body/instructions_text", "wrong_type"),
        ({"instructions_text": " \u2003\n"}, "body/instructions_text", "blank"),
        ({"instructions_text": "\ufeff 123456789 "}, "body/instructions_text", "too_short"),
        ({"instructions_text": "å" * 32_769}, "body/instructions_text", "too_long"),
        ({"instructions_text": f"{TEXT}\0"}, "body/instructions_text", "invalid_characters"),
        ({"grade_scale": "absent"}, "body/grade_scale", "required"),
        ({"grade_scale": "no_such_scale"}, "body/grade_scale", "unknown_grade_scale"),
        ({"context_origin": None}, "body/context_origin", "not_nullable"),
        ({"context_origin": "Not a slug"}, "body/context_origin", "invalid_characters"),
        ({"assignment_id": "a/b"}, "body/assignment_id", "invalid_characters"),
        ({"assignment_id": ".."}, "body/assignment_id", "invalid_characters"),
        ({"assignment_id": "a\u0007b"}, "body/assignment_id", "invalid_characters"),
        ({"assignment_id": " "}, "body/assignment_id", "blank"),
        ({"assignment_id": "x" * 101}, "body/assignment_id", "too_long"),
        ({"assignment_id": 7}, "body/assignment_id", "wrong_type"),
        ({"assignment_id": None}, "body", "scope_not_exclusive"),
        ({"course_id": "ENG5"}, "body", "scope_not_exclusive"),
        ({"assignment_id": None, "course_id": "x" * 51}, "body/course_id", "too_long"),
        (
            {"student_prompt_storage_id": "0" * 64},
            "body/student_prompt_storage_id",
            "unknown_content",
        ),
        ({"judge_rubric_storage_id": "no id"}, "body/judge_rubric_storage_id", "unknown_content"),
        ({"system_prompt": TEXT}, "body/system_prompt", "unknown_field"),
    ],
)
def test_a_value_that_breaks_a_rule_is_reported_with_location_and_code(
    api: Api, changes: dict[str, Any], location: str, code: str
) -> None:
    assert codes(api, new(**changes)) == {location: code}
    assert api.log.rows == {}


@pytest.mark.parametrize("body", ["a text", [], 7, True])
def test_a_body_that_is_not_an_object_is_reported(api: Api, body: Any) -> None:
    assert codes(api, body) == {"body": "not_object"}
    assert api("POST", INSTRUCTIONS, content=b"null").json()["errors"][0]["code"] == "not_object"


def test_a_lone_surrogate_is_refused_in_names_and_values(api: Api) -> None:
    in_name = b'{"assignment_id": "a\\ud800", "instructions_text": "0123456789", "\\udc00": 1}'
    assert api("POST", INSTRUCTIONS, content=in_name).status_code == 400
    in_values = b'{"assignment_id": "a\\ud800", "instructions_text": "0123456789\\udfff",'
    in_values += b'"grade_scale": "swedish_8_anchor"}'
    response = api("POST", INSTRUCTIONS, content=in_values)
    assert [(fault["location"], fault["code"]) for fault in response.json()["errors"]] == [
        ("body/assignment_id", "invalid_characters"),
        ("body/instructions_text", "invalid_characters"),
    ]


def test_the_longest_and_shortest_texts_are_accepted(api: Api) -> None:
    for text in ("0123456789", "å" * 32_768, "𝄞" * 16_384):
        assert api("POST", INSTRUCTIONS, new(instructions_text=text)).status_code == 200
    body = {"assignment_id": "a1", "prompt_text": "å" * 65_536}
    assert api("POST", f"{ADMIN}/student-prompts", body).status_code == 200


def test_courses_have_neither_prompt_nor_rubric(api: Api) -> None:
    storage_id = api("POST", "/v1/content", content=TASK.encode()).json()["storage_id"]
    of_course = new(assignment_id=None, course_id="ENG5", student_prompt_storage_id=storage_id)
    faults = {"body/student_prompt_storage_id": "assignment_scope_only"}
    assert codes(api, of_course) == faults
    body = {"instructions_text": TEXT, "grade_scale": SCALE}
    body |= {"student_prompt_storage_id": storage_id}
    assert codes(api, body, COURSE, "PUT") == faults
    assert codes(api, {"student_prompt_storage_id": storage_id}, COURSE, "PATCH") == faults
    assert api("PUT", COURSE, {**body, "student_prompt_storage_id": None}).status_code == 201
    assert (
        api("PATCH", COURSE, {"student_prompt_storage_id": None}).json()["outcome"] == "unchanged"
    )


def test_a_scope_in_the_body_must_equal_the_scope_in_the_path(api: Api) -> None:
    body = {"instructions_text": TEXT, "grade_scale": SCALE}
    wrong = {"body/assignment_id": "scope_mismatch"}
    assert codes(api, {**body, "assignment_id": "a2"}, A1, "PUT") == wrong
    assert codes(api, {**body, "assignment_id": "a1"}, COURSE, "PUT") == wrong
    both = codes(api, {"course_id": "ENG5", "instructions_text": "x"}, A1, "PATCH")
    assert both == {"body/course_id": "scope_mismatch", "body/instructions_text": "too_short"}


def test_a_storage_id_becomes_an_upload_in_the_same_transaction(api: Api) -> None:
    storage_id = api("POST", "/v1/content", content=TASK.encode()).json()["storage_id"]
    created = api("POST", INSTRUCTIONS, new(student_prompt_storage_id=storage_id))
    assert created.json()["outcomes"] == {"instructions": "created", "student_prompt": "created"}
    assert len(created.json()["position"]) == 2
    assert api("GET", PROMPT).json()["prompt_text"] == TASK
    again = api("POST", INSTRUCTIONS, new(student_prompt_storage_id=storage_id))
    assert again.json()["outcomes"] == {"instructions": "unchanged", "student_prompt": "unchanged"}
    without = api("PUT", A1, new(instructions_text=OTHER, student_prompt_storage_id=None))
    assert without.json()["student_prompt_storage_id"] == storage_id


@pytest.mark.parametrize("content", [b"\xff" * 20, b"short", b" \n" * 20, b"0123456789\0"])
def test_stored_bytes_that_are_not_a_valid_text_cannot_be_referenced(
    api: Api, content: bytes
) -> None:
    storage_id = api("POST", "/v1/content", content=content).json()["storage_id"]
    faults = codes(api, new(judge_rubric_storage_id=storage_id))
    assert faults == {"body/judge_rubric_storage_id": "invalid_content"}


def test_patch_leaves_absent_fields_and_deletes_null_storage_ids(api: Api) -> None:
    api.create_assignment(prompt=True, rubric=True)
    patched = api(
        "PATCH",
        A1,
        {"instructions_text": OTHER, "judge_rubric_storage_id": None},
        content_type="application/merge-patch+json",
    ).json()
    assert patched["outcomes"] == {"instructions": "replaced", "judge_rubric": "deleted"}
    assert patched["student_prompt_storage_id"] == sha256_of(TASK)
    assert (patched["judge_rubric_storage_id"], patched["grade_scale"]) == (None, SCALE)
    assert api("PATCH", A1, {}).json()["outcome"] == "unchanged"
    assert codes(api, {"instructions_text": None}, A1, "PATCH") == {
        "body/instructions_text": "not_nullable"
    }


def test_deleting_instructions_also_deletes_prompt_and_rubric(api: Api) -> None:
    api.create_assignment(prompt=True, rubric=True)
    etag = api("GET", f"{ASSIGNMENTS}/a1").headers["etag"]
    response = api("DELETE", A1, If_Match=etag)
    roles = ["instructions", "student_prompt", "judge_rubric"]
    document = response.json()
    assert (response.status_code, document["status"]) == (200, "deleted")
    assert document["deleted"] == roles
    assert (document["assignment_id"], "course_id" in document) == ("a1", False)
    assert "etag" not in response.headers
    assert len(response.headers["x-position"].split(",")) == 3
    api.create_assignment()
    assert api("GET", f"{ASSIGNMENTS}/a1").json()["student_prompt"]["deleted"] is True


def test_a_prompt_is_uploaded_read_and_deleted(api: Api) -> None:
    api.create_assignment()
    body = {"assignment_id": "a1", "prompt_text": TASK}
    uploaded = api("POST", f"{ADMIN}/student-prompts", body)
    document = uploaded.json()
    assert (document["prompt_text"], document["instructions_text"]) == (TASK, TEXT)
    assert (document["student_prompt_storage_id"], document["version"]) == (sha256_of(TASK), 1)
    read = api("GET", PROMPT)
    assert read.headers["etag"] == uploaded.headers["etag"]
    assert set(document) - set(read.json()) == {"outcome", "folded", "position"}
    assert api("DELETE", PROMPT).json()["deleted"] == ["student_prompt"]
    assert api("GET", A1).status_code == 200


def test_a_rubric_is_uploaded_read_and_deleted(api: Api) -> None:
    api.create_assignment()
    body = {"assignment_id": "a1", "rubric_text": WEIGHTS}
    document = api("POST", f"{ADMIN}/judge-rubrics", body).json()
    assert document["judge_rubric_storage_id"] == sha256_of(WEIGHTS)
    assert api("GET", RUBRIC).json()["rubric_text"] == WEIGHTS
    assert api("DELETE", RUBRIC).json()["deleted"] == ["judge_rubric"]


def test_another_producers_prompt_without_instructions_can_be_read(api: Api) -> None:
    api("POST", "/v1/content", content=TASK.encode())
    api.log.append(prompt_uploaded(TASK), "assignment:a1")
    document = api("GET", PROMPT).json()
    assert (document["prompt_text"], document["instructions_text"]) == (TASK, None)
    assert document["grade_scale"] is None


def test_a_complete_assignment_is_written_and_read(api: Api) -> None:
    body = new(prompt_text=TASK)
    created = api("POST", ASSIGNMENTS, body, If_None_Match="*")
    document = created.json()
    assert (created.status_code, document["outcome"]) == (200, "created")
    assert created.headers["etag"] == f'"{document["tag"]}"'
    assert document["judge_rubric"] is None
    assert document["student_prompt"]["text"] == TASK
    assert document["readiness"]["ready"] is True
    assert api("POST", ASSIGNMENTS, body, If_None_Match="*").status_code == 412
    replaced = api(
        "POST", ASSIGNMENTS, new(instructions_text=OTHER), If_Match=created.headers["etag"]
    )
    assert replaced.json()["student_prompt"]["text"] == TASK
    assert api("POST", ASSIGNMENTS, new(), If_Match=created.headers["etag"]).status_code == 412
    without_texts = api("GET", f"{ASSIGNMENTS}/a1?texts=false").json()
    assert "text" not in without_texts["instructions"]
    assert without_texts["instructions"]["sha256"] == sha256_of(OTHER)


def test_a_complete_assignment_accepts_no_null_and_no_course(api: Api) -> None:
    assert codes(api, new(prompt_text=None, course_id="c"), ASSIGNMENTS) == {
        "body/prompt_text": "not_nullable",
        "body/course_id": "unknown_field",
    }
    contradicting = new(prompt_text=TASK, student_prompt_storage_id="0" * 64)
    assert codes(api, contradicting, ASSIGNMENTS) == {
        "body/student_prompt_storage_id": "invalid_content"
    }


def test_the_etag_of_another_resource_never_matches(api: Api) -> None:
    api.create_assignment(prompt=True)
    of_assignment = api("GET", f"{ASSIGNMENTS}/a1").headers["etag"]
    assert api("PUT", A1, new(instructions_text=OTHER), If_Match=of_assignment).status_code == 412
    assert api("DELETE", PROMPT, If_Match=of_assignment).status_code == 412
    assert api("POST", ASSIGNMENTS, new(), If_Match='"1-0"').status_code == 412
    assert api("PUT", A1, new(), If_Match='W/"1-0"').status_code == 412
    assert api("PUT", A1, new(), If_Match='"9-9", "1-0"').status_code == 200


def test_get_ignores_conditions(api: Api) -> None:
    api.create_assignment()
    etag = api("GET", A1).headers["etag"]
    assert api("GET", A1, If_None_Match=etag).status_code == 200
    assert api("GET", A1, If_Match="no etag").status_code == 200


def test_readiness_covers_unknown_assignments_unknown_scales_and_stored_texts(api: Api) -> None:
    unknown = api("GET", READINESS).json()
    assert (unknown["ready"], unknown["missing"]) == (False, ["instructions", "student_prompt"])
    assert unknown["tag"] == "i0.p0.r0"
    api.log.append(instructions_uploaded(TEXT, grade_scale="later_scale"), "assignment:a1")
    api.log.append(prompt_uploaded(TASK), "assignment:a1")
    known = api("GET", READINESS).json()
    assert (known["ready"], known["warnings"]) == (True, ["unknown_grade_scale"])
    checked = api("GET", f"{READINESS}?check_content=true").json()
    assert checked["missing"] == ["instructions_content", "student_prompt_content"]
    assert checked["ready"] is False


def test_readiness_follows_the_policy(tmp_path: Path) -> None:
    api = make_api(tmp_path, required_roles=("instructions", "judge_rubric"))
    api.create_assignment(prompt=True)
    readiness = api("GET", READINESS).json()
    assert (readiness["required"], readiness["missing"]) == (
        ["instructions", "judge_rubric"],
        ["judge_rubric"],
    )


def test_a_list_is_newest_first_and_a_page_after_its_end_is_empty(api: Api) -> None:
    for name in ("b", "a", "c"):
        event = instructions_uploaded(TEXT, assignment_id=name, occurred_at_ms=1_700_000_000_000)
        api.log.append(event, f"assignment:{name}")
    api("POST", INSTRUCTIONS, new("newest", grade_scale="eng5_np_national_9_step"))
    first = api("GET", f"{INSTRUCTIONS}?page_size=3").json()
    assert [item["assignment_id"] for item in first["items"]] == ["newest", "a", "b"]
    assert (first["total"], first["page"], first["page_size"]) == (4, 1, 3)
    third = api("GET", f"{INSTRUCTIONS}?page=3&page_size=3")
    assert (third.status_code, third.json()["items"], third.json()["total"]) == (200, [], 4)
    of_scale = api("GET", f"{INSTRUCTIONS}?grade_scale={SCALE}").json()
    assert (of_scale["total"], of_scale["page_size"]) == (3, 50)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("page=0", "out_of_range"),
        ("page=-1", "out_of_range"),
        ("page=1.0", "wrong_type"),
        ("page=+1", "wrong_type"),
        ("page=٣", "wrong_type"),
        ("page=", "wrong_type"),
        ("page_size=201", "out_of_range"),
        ("page_size=1_0", "wrong_type"),
        ("grade_scale=none", "unknown_grade_scale"),
        ("as_of=x", "unknown_field"),
    ],
)
def test_an_invalid_query_is_refused_and_never_adjusted(api: Api, query: str, code: str) -> None:
    response = api("GET", f"{INSTRUCTIONS}?{query}")
    assert [fault["code"] for fault in response.json()["errors"]] == [code]


@pytest.mark.parametrize("query", ["texts=1", "texts=yes", "texts=", "texts=True"])
def test_a_flag_must_be_true_or_false(api: Api, query: str) -> None:
    assert api("GET", f"{ASSIGNMENTS}/a1?{query}").status_code == 422


def test_grade_scales_are_listed_without_the_log(api: Api) -> None:
    api.log.faults = [ZeroDivisionError()]
    items = api("GET", f"{ADMIN}/grade-scales", token=hs256(roles=["service"])).json()["items"]
    swedish = next(item for item in items if item["id"] == SCALE)
    assert swedish["priors"]["F"] == 0.02
    assert (len(items), swedish["below_lowest_grade"]) == (3, None)


def test_the_admin_routes_can_be_disabled(tmp_path: Path) -> None:
    api = make_api(tmp_path, admin_enabled=False)
    assert api("GET", A1).json()["type"].endswith("route-not-found")
    assert api("POST", "/v1/content", content=TASK.encode()).status_code == 201


def test_ids_that_need_escapes_in_a_path_are_found(api: Api) -> None:
    for name in ("eng5 a1", "å?#%&+", "a;b=c", "tag:1"):
        api("POST", INSTRUCTIONS, new(name))
        escaped = "".join(f"%{byte:02X}" for byte in name.encode())
        document = api("GET", f"{INSTRUCTIONS}/assignment/{escaped}").json()
        assert document["assignment_id"] == name
