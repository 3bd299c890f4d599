"""What the admin routes take in and answer, by the contract's tables and rules."""

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
    made_api,
    new,
)
from tests.support.builders import instructions_uploaded, prompt_uploaded, sha256_of
from tests.support.tokens import hs256

COURSE = f"{INSTRUCTIONS}/course/ENG5"
WHOLE = f"{ADMIN}/assignments"
READINESS = f"{ADMIN}/assignments/a1/readiness"
OTHER = "Judge how well the parts hang together."


def codes(api: Api, body: Any, path: str = INSTRUCTIONS, method: str = "POST") -> dict[str, str]:
    """The faults of a body, by location."""
    answer = api(method, path, body)
    assert answer.status_code == 422, answer.text
    return {fault["location"]: fault["code"] for fault in answer.json()["errors"]}


def test_instructions_are_created_read_and_left_alone_when_repeated(api: Api) -> None:
    created = api("POST", INSTRUCTIONS, new(), X_Correlation_ID=CORRELATION)
    document = created.json()
    assert (created.status_code, document["outcome"]) == (200, "created")
    assert created.headers["etag"] == '"1-0"'
    [at] = document["position"]
    assert created.headers["x-position"] == f"{at['topic']}/{at['partition']}@{at['offset']}"
    read = api("GET", A1)
    assert read.headers["etag"] == '"1-0"'
    added = {"outcome", "outcomes", "folded", "position"}
    assert read.json() == {name: one for name, one in document.items() if name not in added}
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


def test_what_is_not_folded_in_time_is_202(api: Api) -> None:
    api.log.folds = False
    late = api("PUT", A1, new())
    assert (late.status_code, late.json()["folded"]) == (202, False)
    assert api.metric("cj_admin_fold_late_total") == 1


def test_texts_and_ids_are_stripped_and_ids_brought_to_nfc(api: Api) -> None:
    body = new("\ufeff  re\u0301sume\u0301\n", instructions_text=f"\ufeff\n {TEXT}\r\nso \t\u00a0")
    document = api("POST", INSTRUCTIONS, body).json()
    assert document["assignment_id"] == "r\u00e9sum\u00e9"
    assert document["instructions_text"] == f"{TEXT}\r\nso"
    assert api("GET", f"{INSTRUCTIONS}/assignment/re%CC%81sum%C3%A9").status_code == 200
    mismatch = api("PUT", f"{INSTRUCTIONS}/assignment/re%CC%81sum%C3%A9", body)
    assert mismatch.status_code == 200


def test_a_body_may_begin_with_a_byte_order_mark(api: Api) -> None:
    sent = b'\xef\xbb\xbf{"assignment_id": "a1"}'
    assert api("POST", INSTRUCTIONS, content=sent).status_code == 422


@pytest.mark.parametrize(
    ("changed", "location", "code"),
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
def test_a_value_that_breaks_a_rule_is_told_by_place_and_code(
    api: Api, changed: dict[str, Any], location: str, code: str
) -> None:
    assert codes(api, new(**changed)) == {location: code}
    assert api.log.rows == {}


@pytest.mark.parametrize("body", ["a text", [], 7, True])
def test_a_body_that_is_no_object_is_told_as_that(api: Api, body: Any) -> None:
    assert codes(api, body) == {"body": "not_object"}
    assert api("POST", INSTRUCTIONS, content=b"null").json()["errors"][0]["code"] == "not_object"


def test_a_lone_surrogate_is_refused_wherever_it_stands(api: Api) -> None:
    sent = b'{"assignment_id": "a\\ud800", "instructions_text": "0123456789", "\\udc00": 1}'
    assert api("POST", INSTRUCTIONS, content=sent).status_code == 400
    value = b'{"assignment_id": "a\\ud800", "instructions_text": "0123456789\\udfff",'
    answer = api("POST", INSTRUCTIONS, content=value + b'"grade_scale": "swedish_8_anchor"}')
    assert [(fault["location"], fault["code"]) for fault in answer.json()["errors"]] == [
        ("body/assignment_id", "invalid_characters"),
        ("body/instructions_text", "invalid_characters"),
    ]


def test_the_longest_and_shortest_texts_pass(api: Api) -> None:
    for text in ("0123456789", "å" * 32_768, "𝄞" * 16_384):
        assert api("POST", INSTRUCTIONS, new(instructions_text=text)).status_code == 200
    body = {"assignment_id": "a1", "prompt_text": "å" * 65_536}
    assert api("POST", f"{ADMIN}/student-prompts", body).status_code == 200


def test_courses_have_neither_prompt_nor_rubric(api: Api) -> None:
    an_id = api("POST", "/v1/content", content=TASK.encode()).json()["storage_id"]
    of_course = new(assignment_id=None, course_id="ENG5", student_prompt_storage_id=an_id)
    only = {"body/student_prompt_storage_id": "assignment_scope_only"}
    assert codes(api, of_course) == only
    body = {"instructions_text": TEXT, "grade_scale": SCALE, "student_prompt_storage_id": an_id}
    assert codes(api, body, COURSE, "PUT") == only
    assert codes(api, {"student_prompt_storage_id": an_id}, COURSE, "PATCH") == only
    assert api("PUT", COURSE, {**body, "student_prompt_storage_id": None}).status_code == 201
    assert (
        api("PATCH", COURSE, {"student_prompt_storage_id": None}).json()["outcome"] == "unchanged"
    )


def test_a_scope_in_the_body_has_to_be_the_paths(api: Api) -> None:
    body = {"instructions_text": TEXT, "grade_scale": SCALE}
    wrong = {"body/assignment_id": "scope_mismatch"}
    assert codes(api, {**body, "assignment_id": "a2"}, A1, "PUT") == wrong
    assert codes(api, {**body, "assignment_id": "a1"}, COURSE, "PUT") == wrong
    both = codes(api, {"course_id": "ENG5", "instructions_text": "x"}, A1, "PATCH")
    assert both == {"body/course_id": "scope_mismatch", "body/instructions_text": "too_short"}


def test_a_storage_id_becomes_an_upload_in_the_same_transaction_or_nothing(api: Api) -> None:
    an_id = api("POST", "/v1/content", content=TASK.encode()).json()["storage_id"]
    created = api("POST", INSTRUCTIONS, new(student_prompt_storage_id=an_id))
    assert created.json()["outcomes"] == {"instructions": "created", "student_prompt": "created"}
    assert len(created.json()["position"]) == 2
    assert api("GET", PROMPT).json()["prompt_text"] == TASK
    again = api("POST", INSTRUCTIONS, new(student_prompt_storage_id=an_id))
    assert again.json()["outcomes"] == {"instructions": "unchanged", "student_prompt": "unchanged"}
    kept = api("PUT", A1, new(instructions_text=OTHER, student_prompt_storage_id=None))
    assert kept.json()["student_prompt_storage_id"] == an_id


@pytest.mark.parametrize("content", [b"\xff" * 20, b"short", b" \n" * 20, b"0123456789\0"])
def test_stored_bytes_that_are_no_text_cannot_be_named(api: Api, content: bytes) -> None:
    an_id = api("POST", "/v1/content", content=content).json()["storage_id"]
    found = codes(api, new(judge_rubric_storage_id=an_id))
    assert found == {"body/judge_rubric_storage_id": "invalid_content"}


def test_patch_keeps_what_is_absent_and_unsets_what_is_null(api: Api) -> None:
    api.given(prompt=True, rubric=True)
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


def test_deleting_instructions_takes_prompt_and_rubric_along(api: Api) -> None:
    api.given(prompt=True, rubric=True)
    tag = api("GET", f"{WHOLE}/a1").headers["etag"]
    gone = api("DELETE", A1, If_Match=tag)
    roles = ["instructions", "student_prompt", "judge_rubric"]
    document = gone.json()
    assert (gone.status_code, document["status"], document["deleted"]) == (200, "deleted", roles)
    assert (document["assignment_id"], "course_id" in document) == ("a1", False)
    assert "etag" not in gone.headers
    assert len(gone.headers["x-position"].split(",")) == 3
    api.given()
    assert api("GET", f"{WHOLE}/a1").json()["student_prompt"]["deleted"] is True


def test_a_prompt_is_uploaded_read_and_deleted(api: Api) -> None:
    api.given()
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


def test_a_rubric_likewise(api: Api) -> None:
    api.given()
    body = {"assignment_id": "a1", "rubric_text": WEIGHTS}
    document = api("POST", f"{ADMIN}/judge-rubrics", body).json()
    assert document["judge_rubric_storage_id"] == sha256_of(WEIGHTS)
    assert api("GET", RUBRIC).json()["rubric_text"] == WEIGHTS
    assert api("DELETE", RUBRIC).json()["deleted"] == ["judge_rubric"]


def test_a_foreign_prompt_without_instructions_is_shown(api: Api) -> None:
    api("POST", "/v1/content", content=TASK.encode())
    api.log.append(prompt_uploaded(TASK), "assignment:a1")
    shown = api("GET", PROMPT).json()
    assert (shown["prompt_text"], shown["instructions_text"]) == (TASK, None)
    assert shown["grade_scale"] is None


def test_a_whole_assignment_goes_in_and_comes_out(api: Api) -> None:
    body = new(prompt_text=TASK)
    created = api("POST", WHOLE, body, If_None_Match="*")
    document = created.json()
    assert (created.status_code, document["outcome"]) == (200, "created")
    assert created.headers["etag"] == f'"{document["tag"]}"'
    assert document["judge_rubric"] is None
    assert document["student_prompt"]["text"] == TASK
    assert document["readiness"]["ready"] is True
    assert api("POST", WHOLE, body, If_None_Match="*").status_code == 412
    replaced = api("POST", WHOLE, new(instructions_text=OTHER), If_Match=created.headers["etag"])
    assert replaced.json()["student_prompt"]["text"] == TASK
    assert api("POST", WHOLE, new(), If_Match=created.headers["etag"]).status_code == 412
    bare = api("GET", f"{WHOLE}/a1?texts=false").json()
    assert "text" not in bare["instructions"]
    assert bare["instructions"]["sha256"] == sha256_of(OTHER)


def test_a_whole_assignment_takes_no_nulls_and_no_course(api: Api) -> None:
    assert codes(api, new(prompt_text=None, course_id="c"), WHOLE) == {
        "body/prompt_text": "not_nullable",
        "body/course_id": "unknown_field",
    }
    clash = new(prompt_text=TASK, student_prompt_storage_id="0" * 64)
    assert codes(api, clash, WHOLE) == {"body/student_prompt_storage_id": "invalid_content"}


def test_a_tag_of_something_else_never_matches(api: Api) -> None:
    api.given(prompt=True)
    whole = api("GET", f"{WHOLE}/a1").headers["etag"]
    assert api("PUT", A1, new(instructions_text=OTHER), If_Match=whole).status_code == 412
    assert api("DELETE", PROMPT, If_Match=whole).status_code == 412
    assert api("POST", WHOLE, new(), If_Match='"1-0"').status_code == 412
    assert api("PUT", A1, new(), If_Match='W/"1-0"').status_code == 412
    assert api("PUT", A1, new(), If_Match='"9-9", "1-0"').status_code == 200


def test_gets_ignore_conditions(api: Api) -> None:
    api.given()
    tag = api("GET", A1).headers["etag"]
    assert api("GET", A1, If_None_Match=tag).status_code == 200
    assert api("GET", A1, If_Match="no tag").status_code == 200


def test_readiness_speaks_of_unknown_assignments_and_scales_and_of_contents(api: Api) -> None:
    nothing = api("GET", READINESS).json()
    assert (nothing["ready"], nothing["missing"]) == (False, ["instructions", "student_prompt"])
    assert nothing["tag"] == "i0.p0.r0"
    api.log.append(instructions_uploaded(TEXT, grade_scale="later_scale"), "assignment:a1")
    api.log.append(prompt_uploaded(TASK), "assignment:a1")
    known = api("GET", READINESS).json()
    assert (known["ready"], known["warnings"]) == (True, ["unknown_grade_scale"])
    checked = api("GET", f"{READINESS}?check_content=true").json()
    assert checked["missing"] == ["instructions_content", "student_prompt_content"]
    assert checked["ready"] is False


def test_readiness_follows_the_policy(tmp_path: Path) -> None:
    api = made_api(tmp_path, required_roles=("instructions", "judge_rubric"))
    api.given(prompt=True)
    told = api("GET", READINESS).json()
    assert (told["required"], told["missing"]) == (
        ["instructions", "judge_rubric"],
        ["judge_rubric"],
    )


def test_a_list_is_newest_first_and_a_page_past_its_end_is_empty(api: Api) -> None:
    for name in ("b", "a", "c"):
        event = instructions_uploaded(TEXT, assignment_id=name, occurred_at_ms=1_700_000_000_000)
        api.log.append(event, f"assignment:{name}")
    api("POST", INSTRUCTIONS, new("newest", grade_scale="eng5_np_national_9_step"))
    first = api("GET", f"{INSTRUCTIONS}?page_size=3").json()
    assert [item["assignment_id"] for item in first["items"]] == ["newest", "a", "b"]
    assert (first["total"], first["page"], first["page_size"]) == (4, 1, 3)
    past = api("GET", f"{INSTRUCTIONS}?page=3&page_size=3")
    assert (past.status_code, past.json()["items"], past.json()["total"]) == (200, [], 4)
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
def test_a_query_is_never_clamped(api: Api, query: str, code: str) -> None:
    answer = api("GET", f"{INSTRUCTIONS}?{query}")
    assert [fault["code"] for fault in answer.json()["errors"]] == [code]


@pytest.mark.parametrize("query", ["texts=1", "texts=yes", "texts=", "texts=True"])
def test_a_flag_is_true_or_false(api: Api, query: str) -> None:
    assert api("GET", f"{WHOLE}/a1?{query}").status_code == 422


def test_grade_scales_show_their_fields_without_the_log(api: Api) -> None:
    api.log.faults = [ZeroDivisionError()]
    items = api("GET", f"{ADMIN}/grade-scales", token=hs256(roles=["service"])).json()["items"]
    swedish = next(item for item in items if item["id"] == SCALE)
    assert swedish["priors"]["F"] == 0.02
    assert (len(items), swedish["below_lowest_grade"]) == (3, None)


def test_the_admin_routes_can_be_left_out(tmp_path: Path) -> None:
    api = made_api(tmp_path, admin_enabled=False)
    assert api("GET", A1).json()["type"].endswith("route-not-found")
    assert api("POST", "/v1/content", content=TASK.encode()).status_code == 201


def test_ids_that_need_escapes_are_found_again(api: Api) -> None:
    for name in ("eng5 a1", "å?#%&+", "a;b=c", "tag:1"):
        api("POST", INSTRUCTIONS, new(name))
        from_path = "".join(f"%{byte:02X}" for byte in name.encode())
        shown = api("GET", f"{INSTRUCTIONS}/assignment/{from_path}").json()
        assert shown["assignment_id"] == name
