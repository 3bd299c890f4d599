"""The routes of anchors: one grade scale at a time, one tag for all of them."""

from pathlib import Path
from typing import Any

import pytest

from schemas.field_limits import MAX_ANCHORS
from tests.contract.api.calling import A1, ADMIN, Api, make_api, new
from tests.support.builders import anchor, anchors_uploaded, instructions_deleted, sha256_of

ANCHORS = f"{ADMIN}/anchors"
OF_A1 = f"{ANCHORS}/assignment/a1"
SWEDISH, LEGACY, NATIONAL = (
    "swedish_8_anchor",
    "eng5_np_legacy_9_step",
    "eng5_np_national_9_step",
)


def essay(number: int = 0) -> str:
    """A text that is long enough for an anchor."""
    return f"Essay {number}: " + "the council should not close the youth centre. " * 3


def body(anchor_id: str = "one", grade: str = "C", **changes: Any) -> dict[str, Any]:
    given = {"assignment_id": "a1", "anchor_id": anchor_id, "grade": grade, "essay_text": essay()}
    return {name: value for name, value in {**given, **changes}.items() if value != "absent"}


def listed(anchor_id: str = "one", grade: str = "C", **changes: Any) -> dict[str, Any]:
    return body(anchor_id, grade, **{"assignment_id": "absent", **changes})


@pytest.fixture
def ready(api: Api) -> Api:
    """The API, with instructions for a1."""
    assert api("PUT", A1, new()).is_success
    return api


def codes(api: Api, method: str, path: str, document: Any) -> dict[str, str]:
    response = api(method, path, document)
    assert response.status_code == 422, response.text
    return {fault["location"]: fault["code"] for fault in response.json()["errors"]}


def test_an_anchor_is_added_stored_and_read_with_the_scale_of_the_instructions(ready: Api) -> None:
    added = ready("POST", ANCHORS, body("  re\u0301sume\u0301 ", "C+"))
    document = added.json()
    assert (added.status_code, document["outcome"]) == (200, "created")
    assert document["grade_scale"] == SWEDISH
    [one] = document["anchors"]
    assert (one["anchor_id"], one["grade"]) == ("r\u00e9sum\u00e9", "C+")
    assert one["storage_id"] == one["sha256"] == sha256_of(essay().strip())
    assert ready("GET", f"/v1/content/{one['storage_id']}").text == essay().strip()
    assert document["position"][0]["topic"] == "assessment.anchors.v1"
    read = ready("GET", OF_A1)
    assert read.headers["etag"] == added.headers["etag"] == f'"{document["tag"]}"'
    added_fields = {"outcome", "folded", "position"}
    assert read.json() == {k: v for k, v in document.items() if k not in added_fields}


def test_an_anchor_replaces_the_one_with_its_id_and_the_same_again_changes_nothing(
    ready: Api,
) -> None:
    ready("POST", ANCHORS, body("one", "C"))
    ready("POST", ANCHORS, body("two", "A"))
    replaced = ready("POST", ANCHORS, body("one", "D+")).json()
    assert (replaced["outcome"], replaced["version"]) == ("replaced", 3)
    assert [(one["anchor_id"], one["grade"]) for one in replaced["anchors"]] == [
        ("one", "D+"),
        ("two", "A"),
    ]
    assert ready("POST", ANCHORS, body("one", "D+")).json()["outcome"] == "unchanged"


def test_the_anchors_of_two_scales_do_not_touch_each_other(ready: Api) -> None:
    ready("POST", ANCHORS, body("one", "C"))
    put = ready("PUT", f"{OF_A1}?grade_scale={LEGACY}", {"anchors": [listed("one", "F")]})
    assert (put.status_code, put.json()["anchor_count"]) == (200, 1)
    assert put.json()["anchor_count_total"] == 2
    assert put.json()["anchor_count_by_scale"] == {LEGACY: 1, SWEDISH: 1}
    removed = ready("DELETE", OF_A1).json()  # of the scale of the instructions
    assert (removed["outcome"], removed["anchor_count_total"]) == ("replaced", 1)
    empty = ready("GET", OF_A1).json()
    assert (empty["anchors"], empty["anchor_count_by_scale"]) == ([], {LEGACY: 1})
    left = ready("DELETE", f"{OF_A1}/one?grade_scale={LEGACY}").json()
    assert (left["outcome"], left["anchor_count_total"]) == ("deleted", 0)
    gone = ready("GET", OF_A1)
    assert (gone.status_code, gone.json()["deleted"]) == (404, True)


def test_put_replaces_the_whole_set_of_a_scale_and_creates_with_201(ready: Api) -> None:
    first = ready("PUT", OF_A1, {"anchors": [listed("one", "C"), listed("two", "A")]})
    assert (first.status_code, first.json()["outcome"]) == (201, "created")
    second = ready("PUT", OF_A1, {"anchors": [listed("three", "B")]})
    assert (second.status_code, second.json()["outcome"]) == (200, "replaced")
    assert [one["anchor_id"] for one in second.json()["anchors"]] == ["three"]


def test_a_text_may_be_stored_already(ready: Api) -> None:
    stored = ready("POST", "/v1/content", content=essay(7).strip().encode()).json()
    document = ready(
        "POST", ANCHORS, body(storage_id=stored["storage_id"], essay_text="absent")
    ).json()
    assert document["anchors"][0]["storage_id"] == stored["storage_id"]
    short = ready("POST", "/v1/content", content=b"too short for an anchor").json()
    wrong = body(storage_id=short["storage_id"], essay_text="absent")
    assert codes(ready, "POST", ANCHORS, wrong) == {"body/storage_id": "invalid_content"}
    absent = [listed(storage_id="0" * 64, essay_text="absent")]
    assert codes(ready, "PUT", OF_A1, {"anchors": absent}) == {
        "body/anchors/0/storage_id": "unknown_content"
    }


@pytest.mark.parametrize(
    ("changes", "location", "code"),
    [
        ({"anchor_id": ""}, "body/anchor_id", "blank"),
        ({"anchor_id": "x" * 65}, "body/anchor_id", "too_long"),
        ({"anchor_id": "a/b"}, "body/anchor_id", "invalid_characters"),
        ({"anchor_id": ".."}, "body/anchor_id", "invalid_characters"),
        ({"grade": "absent"}, "body/grade", "required"),
        ({"grade": "Z"}, "body/grade", "unknown_grade"),
        ({"grade": "F+"}, "body/grade", "unknown_grade"),  # of another scale
        ({"grade": "0", "grade_scale": LEGACY}, "body/grade", "unknown_grade"),
        ({"grade_scale": "no_such_scale"}, "body/grade_scale", "unknown_grade_scale"),
        ({"essay_text": "x" * 99}, "body/essay_text", "too_short"),
        ({"essay_text": "å" * 65_537}, "body/essay_text", "too_long"),
        ({"essay_text": "absent"}, "body/storage_id", "text_not_exclusive"),
        ({"storage_id": "0" * 64}, "body/storage_id", "text_not_exclusive"),
        ({"rank": 1}, "body/rank", "unknown_field"),
    ],
)
def test_a_value_that_breaks_a_rule_is_reported(
    ready: Api, changes: dict[str, Any], location: str, code: str
) -> None:
    assert codes(ready, "POST", ANCHORS, body(**changes)) == {location: code}


@pytest.mark.parametrize(
    ("scale", "grade"), [(LEGACY, "F"), (NATIONAL, "0"), (SWEDISH, "F"), (NATIONAL, "9")]
)
def test_the_grade_below_the_lowest_is_valid_where_the_scale_allows_it(
    ready: Api, scale: str, grade: str
) -> None:
    added = ready("POST", ANCHORS, body(grade=grade, grade_scale=scale))
    assert added.json()["anchors"][0]["grade"] == grade


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", ANCHORS, body("two", "A")),
        ("PUT", OF_A1, {"anchors": [listed("two", "A")]}),
        ("DELETE", OF_A1, None),
        ("DELETE", f"{OF_A1}/one", None),
    ],
)
def test_a_setting_makes_a_condition_required(
    tmp_path: Path, method: str, path: str, document: Any
) -> None:
    strict = make_api(tmp_path, require_if_match=True)
    assert strict("PUT", A1, new(), If_None_Match="*").is_success
    first = strict("PUT", OF_A1, {"anchors": [listed()]}, If_None_Match="*")
    assert first.status_code == 201
    refused = strict(method, path, document)
    assert (refused.status_code, refused.headers["etag"]) == (428, first.headers["etag"])
    assert refused.json()["current_version"] == 1
    stale = strict(method, path, document, If_Match='"7-99"')
    assert stale.status_code == 412
    assert strict(method, path, document, If_Match=first.headers["etag"]).is_success


def test_an_id_stands_once_in_a_set_and_every_fault_is_reported(ready: Api) -> None:
    anchors = [listed("one", "C"), listed("one", "9"), listed("two", "A")]
    assert codes(ready, "PUT", OF_A1, {"anchors": anchors}) == {
        "body/anchors/1/grade": "unknown_grade",
        "body/anchors/1/anchor_id": "repeated",
    }
    assert codes(ready, "PUT", OF_A1, {"anchors": []}) == {"body/anchors": "too_short"}
    assert ready.log.rows["assignment:a1"].anchors is None


def test_an_assignment_has_no_more_anchors_than_it_may(ready: Api) -> None:
    full = anchors_uploaded(*(anchor(f"a{n}") for n in range(MAX_ANCHORS)))
    ready.log.append(full, "assignment:a1")
    assert codes(ready, "POST", ANCHORS, body("one-more")) == {"body": "too_long"}
    assert ready("POST", ANCHORS, body("a7", "A")).is_success  # replaces one


def test_anchors_need_live_instructions_and_go_with_them(ready: Api) -> None:
    other = ready("POST", ANCHORS, body(assignment_id="a2"))
    assert (other.status_code, other.json()["resource_type"]) == (404, "assessment_instruction")
    ready("POST", ANCHORS, body())
    deleted = ready("DELETE", A1).json()
    assert set(deleted["deleted"]) == {"instructions", "anchors"}
    gone = ready("GET", OF_A1)
    assert (gone.status_code, gone.json()["resource_type"]) == (404, "assessment_instruction")


def test_what_is_not_there_cannot_be_deleted(ready: Api) -> None:
    assert ready("DELETE", OF_A1).json()["resource_type"] == "anchors"
    ready("POST", ANCHORS, body("one"))
    for path in (
        f"{OF_A1}/two",
        f"{OF_A1}/one?grade_scale={LEGACY}",
        f"{OF_A1}?grade_scale={LEGACY}",
    ):
        response = ready("DELETE", path)
        assert (response.status_code, response.json()["resource_type"]) == (404, "anchors"), path
    assert ready("GET", OF_A1).json()["anchor_count"] == 1


def test_if_match_holds_for_the_anchors_of_every_scale(ready: Api) -> None:
    tag = ready("POST", ANCHORS, body("one")).headers["etag"]
    assert ready("POST", ANCHORS, body("two"), If_None_Match="*").status_code == 412
    newer = ready("POST", ANCHORS, body("x", "F", grade_scale=LEGACY), If_Match=tag)
    assert newer.is_success
    for method, path, document in (
        ("POST", ANCHORS, body("two")),
        ("PUT", OF_A1, {"anchors": [listed("two")]}),
        ("DELETE", OF_A1, None),
        ("DELETE", f"{OF_A1}/one", None),
    ):
        refused = ready(method, path, document, If_Match=tag)
        assert (refused.status_code, refused.json()["current_tag"]) == (
            412,
            newer.json()["tag"],
        )
    assert ready("DELETE", f"{OF_A1}/one", If_Match=newer.headers["etag"]).is_success


def test_anchors_change_neither_the_tag_nor_the_readiness_of_their_assignment(ready: Api) -> None:
    path = f"{ADMIN}/assignments/a1"
    before = ready("GET", path)
    ready("POST", ANCHORS, body())
    after = ready("GET", path)
    assert after.headers["etag"] == before.headers["etag"]
    assert after.json()["readiness"] == before.json()["readiness"]
    assert before.json()["anchors"] is None
    assert [one["anchor_id"] for one in after.json()["anchors"]["anchors"]] == ["one"]


def test_anchors_of_instructions_that_another_producer_deleted_are_read_by_scale(
    ready: Api, tmp_path: Path
) -> None:
    ready("POST", ANCHORS, body())
    ready.log.append(instructions_deleted(), "assignment:a1")
    assert ready("GET", OF_A1).json()["resource_type"] == "assessment_instruction"
    assert ready("GET", f"{OF_A1}?grade_scale={SWEDISH}").json()["anchor_count"] == 1
    assert ready("DELETE", f"{OF_A1}?grade_scale={SWEDISH}").is_success


def test_the_history_and_the_past_of_an_assignment_have_its_anchors(ready: Api) -> None:
    ready("POST", ANCHORS, body("one"))
    first = ready.log.records[-1]
    ready("POST", ANCHORS, body("two"))
    items = ready("GET", f"{ADMIN}/assignments/a1/history").json()["items"]
    of_anchors = [one for one in items if one["role"] == "anchors"]
    assert [(one["version"], one["changed"]) for one in of_anchors] == [
        (2, ["anchors"]),
        (1, ["uploaded"]),
    ]
    path = f"/audit/v1/scopes/assignment:a1/as-of?at={first.at}"
    then = ready("GET", path).json()["anchors"]
    assert (then["version"], [one["anchor_id"] for one in then["anchors"]]) == (1, ["one"])


def test_each_request_counts_as_its_operation(ready: Api) -> None:
    ready("POST", ANCHORS, body())
    ready("GET", OF_A1)
    ready("DELETE", f"{OF_A1}/one")
    for operation in ("anchor_upload", "anchors_get", "anchor_delete"):
        labels = {"operation": operation, "status": "success"}
        assert ready.metric("cj_admin_instruction_operations_total", **labels) == 1
    assert ready.metric("cj_admin_events_appended_total", event_type="AnchorsUploaded") == 1
    assert ready.metric("cj_admin_events_appended_total", event_type="AnchorsDeleted") == 1
