"""Every limit of every field, at its edge and one beyond."""

from dataclasses import fields, replace
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.errors import Malformed
from schemas.events import CJAssessmentRequested, Essay, UploadEvent
from schemas.field_limits import MAX_ESSAYS, MAX_LONG, MAX_OVERRIDES, RULES, check_limits
from tests.support.builders import UPLOADS, essays, instructions_uploaded, requested

CODEC = Codec()
ALL = (*UPLOADS, requested())
LONGEST_TEXTS = {
    "event_id": 255,
    "previous_event_id": 255,
    "actor": 255,
    "correlation_id": 200,
    "storage_id": 255,
    "media_type": 255,
    "source_service": 255,
    "batch_id": 255,
    "language": 35,
    "student_prompt_ref": 255,
    "user_id": 255,
    "org_id": 255,
}
LONGEST_IDS = {"assignment_id": 100, "course_id": 50, "course_code": 50}
FORBIDDEN_IN_IDS = ("a/b", "a\\b", ".", "..", "a\nb", "a\tb", "\x7f", "a\x85", "a\x00")
LEAST = {"version": 1, "occurred_at_ms": 0, "created_at_ms": 0, "due_at_ms": 0, "size_bytes": 1}
SLUGS = {"grade_scale": 50, "context_origin": 64}


def having(name: str) -> list[Any]:
    """One of each event with that field set."""
    return [one for one in ALL if getattr(one, name, None) is not None or _is_optional(one, name)]


def _is_optional(event: object, name: str) -> bool:
    free = ("previous_event_id", "student_prompt_ref", "user_id", "org_id", "llm_config_overrides")
    return name in free and hasattr(event, name)


def cases(values: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(event, name, limit, id=f"{type(event).__name__}.{name}")
        for name, limit in values.items()
        for event in having(name)
    ]


def assert_taken(event: UploadEvent | CJAssessmentRequested) -> None:
    assert CODEC.decode(CODEC.encode(event)) == event


def assert_refused(event: UploadEvent | CJAssessmentRequested, name: str, why: str) -> None:
    """Refused by the codec, naming the field and saying why without the value."""
    with pytest.raises(Malformed, match=why) as refusal:
        CODEC.decode(CODEC.encode(event))
    assert f"{type(event).__name__}.{name}: " in str(refusal.value)
    value = getattr(event, name)
    if isinstance(value, str) and len(value) > 3:
        assert value not in str(refusal.value)


def test_every_limited_field_is_covered_here() -> None:
    covered = {*LONGEST_TEXTS, *LONGEST_IDS, *LEAST, *SLUGS, "sha256", "llm_config_overrides"}
    assert covered | {"essays", "essay_id", "text_storage_id"} == set(RULES)


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_every_field_of_strangers_is_limited(event: object) -> None:
    assert {field.name for field in fields(event)} - set(RULES) <= {"erased"}  # type: ignore[arg-type]


@pytest.mark.parametrize("character", ["x", "ö", "🎓"])
@pytest.mark.parametrize(("event", "name", "most"), cases(LONGEST_TEXTS | LONGEST_IDS))
def test_a_text_may_have_so_many_characters_of_any_script(
    event: Any, name: str, most: int, character: str
) -> None:
    assert_taken(replace(event, **{name: character * most}))
    longer = replace(event, **{name: character * (most + 1)})
    assert_refused(longer, name, f"{most + 1} characters, allowed are 1 to {most}")


@pytest.mark.parametrize(("event", "name", "most"), cases(LONGEST_TEXTS | LONGEST_IDS))
def test_a_text_is_not_empty(event: Any, name: str, most: int) -> None:
    assert_refused(replace(event, **{name: ""}), name, f"0 characters, allowed are 1 to {most}")


@pytest.mark.parametrize(("event", "name", "most"), cases(LONGEST_TEXTS))
def test_a_text_holds_no_null_character(event: Any, name: str, most: int) -> None:
    assert_refused(replace(event, **{name: "x\0y"}), name, r"U\+0000")


@pytest.mark.parametrize("value", FORBIDDEN_IN_IDS, ids=repr)
@pytest.mark.parametrize(("event", "name", "most"), cases(LONGEST_IDS))
def test_an_id_can_stand_in_a_path(event: Any, name: str, most: int, value: str) -> None:
    assert_refused(replace(event, **{name: value}), name, "not an id")


@pytest.mark.parametrize("value", ["...", "a b", "ÅÄÖ 5:B", "a.b", "-", "🎓"])
@pytest.mark.parametrize(("event", "name", "most"), cases(LONGEST_IDS))
def test_an_id_may_be_of_any_script(event: Any, name: str, most: int, value: str) -> None:
    assert_taken(replace(event, **{name: value}))


@pytest.mark.parametrize(("event", "name", "least"), cases(LEAST))
def test_a_number_has_a_least_value(event: Any, name: str, least: int) -> None:
    assert_taken(replace(event, **{name: least}))
    assert_taken(replace(event, **{name: MAX_LONG}))
    assert_refused(replace(event, **{name: least - 1}), name, f"allowed are {least} to {MAX_LONG}")


@pytest.mark.parametrize("value", ["0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n", ""])
@pytest.mark.parametrize(("event", "name", "_"), cases({"sha256": None}))
def test_a_sha256_is_64_lower_case_hex_digits(event: Any, name: str, _: None, value: str) -> None:
    assert_refused(replace(event, **{name: value}), name, "does not match")


@pytest.mark.parametrize(("event", "name", "most"), cases(SLUGS))
def test_a_slug_is_lower_case_and_short(event: Any, name: str, most: int) -> None:
    assert_taken(replace(event, **{name: "a" * most}))
    for wrong in ("", "a" * (most + 1), "Abcd", "with-dash", "_abc", "abcd\n", "åland"):
        assert_refused(replace(event, **{name: wrong}), name, "does not match")


def test_overrides_may_be_of_64_kibibytes() -> None:
    assert_taken(requested(llm_config_overrides="x" * MAX_OVERRIDES))
    longer = requested(llm_config_overrides="x" * (MAX_OVERRIDES + 1))
    assert_refused(longer, "llm_config_overrides", f"allowed are 1 to {MAX_OVERRIDES}")


@pytest.mark.parametrize("count", [2, MAX_ESSAYS])
def test_a_batch_may_have_so_many_essays(count: int) -> None:
    assert_taken(requested(essays=essays(count)))


@pytest.mark.parametrize("count", [0, 1, MAX_ESSAYS + 1])
def test_a_batch_has_two_to_5000_essays(count: int) -> None:
    assert_refused(requested(essays=essays(count)), "essays", f"{count} items, allowed are 2 to")


@pytest.mark.parametrize("name", ["essay_id", "text_storage_id"])
@pytest.mark.parametrize("value", ["", "x" * 256, "x\0y"])
def test_a_broken_essay_is_named(name: str, value: str) -> None:
    good = essays()
    broken: Essay = replace(good[1], **{name: value})
    with pytest.raises(Malformed, match=f"Essay.{name}"):
        check_limits(requested(essays=(good[0], broken)))


@pytest.mark.parametrize(("assignment_id", "course_id"), [(None, None), ("a1", "ENG5")])
def test_an_upload_has_exactly_one_scope(assignment_id: str | None, course_id: str | None) -> None:
    event = instructions_uploaded(assignment_id=assignment_id, course_id=course_id)
    with pytest.raises(Malformed, match="exactly one of assignment_id and course_id"):
        CODEC.decode(CODEC.encode(event))
