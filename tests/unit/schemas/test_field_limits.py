"""Every limit of every field: the last accepted value and the first refused one."""

from dataclasses import fields, replace
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.errors import Malformed
from schemas.events import Anchor, CJAssessmentRequested, Essay, UploadEvent
from schemas.field_limits import (
    MAX_ANCHORS,
    MAX_ESSAYS,
    MAX_LONG,
    MAX_OVERRIDES,
    RULES,
    check_limits,
)
from tests.support.builders import (
    UPLOADS,
    anchor,
    anchors_uploaded,
    essays,
    instructions_uploaded,
    prompt_uploaded,
    requested,
)

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
MINIMUMS = {"version": 1, "occurred_at_ms": 0, "created_at_ms": 0, "size_bytes": 1}
SLUGS = {"grade_scale": 50, "context_origin": 64}


def events_with(name: str) -> list[Any]:
    """One event of each class that has this field."""
    return [
        event
        for event in ALL
        if getattr(event, name, None) is not None or _is_optional(event, name)
    ]


def _is_optional(event: object, name: str) -> bool:
    optional = (
        "previous_event_id",
        "student_prompt_ref",
        "user_id",
        "org_id",
        "llm_config_overrides",
    )
    return name in optional and hasattr(event, name)


def cases(values: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(event, name, limit, id=f"{type(event).__name__}.{name}")
        for name, limit in values.items()
        for event in events_with(name)
    ]


def assert_accepted(event: UploadEvent | CJAssessmentRequested) -> None:
    assert CODEC.decode(CODEC.encode(event)) == event


def assert_refused(event: UploadEvent | CJAssessmentRequested, name: str, reason: str) -> None:
    """Assert that the codec refuses the event and names the field and the reason, not the value."""
    with pytest.raises(Malformed, match=reason) as refusal:
        CODEC.decode(CODEC.encode(event))
    assert f"{type(event).__name__}.{name}: " in str(refusal.value)
    value = getattr(event, name)
    if isinstance(value, str) and len(value) > 3:
        assert value not in str(refusal.value)


def test_this_file_tests_every_limited_field() -> None:
    covered = {*LONGEST_TEXTS, *LONGEST_IDS, *MINIMUMS, *SLUGS, "sha256", "llm_config_overrides"}
    covered |= {"due_at_ms", "StudentPromptUploaded.language"}
    covered |= {"essays", "essay_id", "text_storage_id"}
    covered |= {"AnchorsUploaded.anchors", "anchor_id", "Anchor.grade"}
    assert covered == set(RULES)


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_every_field_of_uploads_and_requests_has_a_limit(event: object) -> None:
    assert {field.name for field in fields(event)} - set(RULES) <= {"erased"}  # type: ignore[arg-type]


@pytest.mark.parametrize("character", ["x", "ö", "🎓"])
@pytest.mark.parametrize(("event", "name", "maximum"), cases(LONGEST_TEXTS | LONGEST_IDS))
def test_a_text_may_have_the_maximum_number_of_characters_of_any_script(
    event: Any, name: str, maximum: int, character: str
) -> None:
    assert_accepted(replace(event, **{name: character * maximum}))
    longer = replace(event, **{name: character * (maximum + 1)})
    assert_refused(longer, name, f"{maximum + 1} characters, allowed are 1 to {maximum}")


@pytest.mark.parametrize(("event", "name", "maximum"), cases(LONGEST_TEXTS | LONGEST_IDS))
def test_a_text_is_not_empty(event: Any, name: str, maximum: int) -> None:
    assert_refused(replace(event, **{name: ""}), name, f"0 characters, allowed are 1 to {maximum}")


@pytest.mark.parametrize(("event", "name", "maximum"), cases(LONGEST_TEXTS))
def test_a_text_holds_no_null_character(event: Any, name: str, maximum: int) -> None:
    assert_refused(replace(event, **{name: "x\0y"}), name, r"U\+0000")


@pytest.mark.parametrize("value", FORBIDDEN_IN_IDS, ids=repr)
@pytest.mark.parametrize(("event", "name", "maximum"), cases(LONGEST_IDS))
def test_an_id_has_no_characters_that_break_a_path(
    event: Any, name: str, maximum: int, value: str
) -> None:
    assert_refused(replace(event, **{name: value}), name, "not an id")


@pytest.mark.parametrize("value", ["...", "a b", "ÅÄÖ 5:B", "a.b", "-", "🎓"])
@pytest.mark.parametrize(("event", "name", "maximum"), cases(LONGEST_IDS))
def test_an_id_may_have_characters_of_any_script(
    event: Any, name: str, maximum: int, value: str
) -> None:
    assert_accepted(replace(event, **{name: value}))


NOT_NORMAL = {
    "a\u030ar": "år",
    "\u1112\u1161\u11ab": "한",
    "\u212b": "Å",
    "\ufb1d": "\u05d9\u05b4",
    "e\u0301\u0323": "\u1eb9\u0301",
    " a": "a",
    "a ": "a",
    "a\u00a0": "a",
    "\u3000a": "a",
    "a\u2003": "a",
    "\ufeffa": "a",
}


@pytest.mark.parametrize("value", NOT_NORMAL, ids=ascii)
@pytest.mark.parametrize(("event", "name", "maximum"), cases(LONGEST_IDS))
def test_an_id_is_in_normal_form(event: Any, name: str, maximum: int, value: str) -> None:
    normal, other = replace(event, **{name: NOT_NORMAL[value]}), replace(event, **{name: value})
    assert_accepted(normal)
    assert_refused(other, name, "not in normal form: Unicode NFC, no blank at the beginning or end")
    assert CODEC.as_earlier().decode(CODEC.encode(other)) == other


@pytest.mark.parametrize("name", ["assignment_id", "course_code"])
@pytest.mark.parametrize(
    "invisible", [0xAD, 0x61C, 0x200B, 0x200F, 0x2028, 0x202E, 0x2060, 0x2066, 0xFEFF, 0xE0041]
)
def test_an_id_has_no_invisible_characters(name: str, invisible: int) -> None:
    other = requested(**{name: f"eng{chr(invisible)}5"})
    assert_refused(other, name, f"an invisible character in it: U\\+{invisible:04X}")
    assert CODEC.as_earlier().decode(CODEC.encode(other)) == other
    assert_accepted(requested(**{name: "\u0645\u06cc\u200c\u062e"}))  # as in Persian words


@pytest.mark.parametrize("due", [2**34, 1_900_000_000_000, 2**48 - 1])
def test_a_deadline_is_in_milliseconds(due: int) -> None:
    assert_accepted(requested(due_at_ms=due))


@pytest.mark.parametrize("due", [0, 1_900_000_000, 2**34 - 1, 2**48, 1_900_000_000_000_000])
def test_a_deadline_in_another_unit_is_refused(due: int) -> None:
    other = requested(due_at_ms=due)
    assert_refused(other, "due_at_ms", "allowed are 17179869184 to 281474976710655 ms since 1970")
    assert CODEC.as_earlier().decode(CODEC.encode(other)) == other


@pytest.mark.parametrize("tag", ["sv", "en-GB", "zh-Hant-TW", "x-class-7b", None])
def test_the_language_of_a_prompt_is_a_bcp_47_tag(tag: str | None) -> None:
    assert_accepted(prompt_uploaded(language=tag))


@pytest.mark.parametrize("name", ["Svenska", "sv_SE", "sv-", "s", "sv-x-" + "a1-" * 12 + "b"])
def test_the_name_of_a_language_of_a_prompt_is_refused(name: str) -> None:
    other = prompt_uploaded(language=name)
    assert_refused(other, "language", "not a BCP 47 language tag")
    if len(name) <= 35:
        assert CODEC.as_earlier().decode(CODEC.encode(other)) == other


@pytest.mark.parametrize(("event", "name", "minimum"), cases(MINIMUMS))
def test_a_number_has_a_minimum(event: Any, name: str, minimum: int) -> None:
    assert_accepted(replace(event, **{name: minimum}))
    assert_accepted(replace(event, **{name: MAX_LONG}))
    assert_refused(
        replace(event, **{name: minimum - 1}), name, f"allowed are {minimum} to {MAX_LONG}"
    )


@pytest.mark.parametrize("value", ["0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n", ""])
@pytest.mark.parametrize(("event", "name", "_"), cases({"sha256": None}))
def test_a_sha256_is_64_lower_case_hex_digits(event: Any, name: str, _: None, value: str) -> None:
    assert_refused(replace(event, **{name: value}), name, "does not match")


@pytest.mark.parametrize(("event", "name", "maximum"), cases(SLUGS))
def test_a_slug_is_lower_case_and_short(event: Any, name: str, maximum: int) -> None:
    assert_accepted(replace(event, **{name: "a" * maximum}))
    for wrong in ("", "a" * (maximum + 1), "Abcd", "with-dash", "_abc", "abcd\n", "åland"):
        assert_refused(replace(event, **{name: wrong}), name, "does not match")


def test_overrides_may_have_64_kibi_characters() -> None:
    assert_accepted(requested(llm_config_overrides="x" * MAX_OVERRIDES))
    longer = requested(llm_config_overrides="x" * (MAX_OVERRIDES + 1))
    assert_refused(longer, "llm_config_overrides", f"allowed are 1 to {MAX_OVERRIDES}")


@pytest.mark.parametrize("count", [2, MAX_ESSAYS])
def test_a_batch_may_have_two_or_5000_essays(count: int) -> None:
    assert_accepted(requested(essays=essays(count)))


@pytest.mark.parametrize("count", [0, 1, MAX_ESSAYS + 1])
def test_a_batch_with_fewer_than_two_or_more_than_5000_essays_is_refused(count: int) -> None:
    assert_refused(requested(essays=essays(count)), "essays", f"{count} items, allowed are 2 to")


def test_an_id_is_of_one_essay_and_a_text_may_be_of_two() -> None:
    first, second, third = essays(3)
    other = requested(essays=(first, second, replace(third, essay_id=first.essay_id)))
    assert_refused(other, "essays", "items 0 and 2 have the same essay_id")
    assert CODEC.as_earlier().decode(CODEC.encode(other)) == other
    one_text = replace(third, text_storage_id=first.text_storage_id)
    assert_accepted(requested(essays=(first, second, one_text)))


@pytest.mark.parametrize("name", ["essay_id", "text_storage_id"])
@pytest.mark.parametrize("value", ["", "x" * 256, "x\0y"])
def test_the_error_names_the_field_of_a_broken_essay(name: str, value: str) -> None:
    good = essays()
    broken: Essay = replace(good[1], **{name: value})
    with pytest.raises(Malformed, match=f"Essay.{name}"):
        check_limits(requested(essays=(good[0], broken)))


@pytest.mark.parametrize(("assignment_id", "course_id"), [(None, None), ("a1", "ENG5")])
def test_an_upload_has_exactly_one_scope(assignment_id: str | None, course_id: str | None) -> None:
    event = instructions_uploaded(assignment_id=assignment_id, course_id=course_id)
    with pytest.raises(Malformed, match="exactly one of assignment_id and course_id"):
        CODEC.decode(CODEC.encode(event))


def test_an_assignment_has_1_to_200_anchors_whatever_their_scale() -> None:
    most = [anchor(f"anchor-{number}") for number in range(MAX_ANCHORS)]
    assert_accepted(anchors_uploaded(*most))
    for refused in ((), (*most, anchor("one-more"))):
        with pytest.raises(Malformed, match=f"{len(refused)} items, allowed are 1 to 200"):
            CODEC.decode(CODEC.encode(anchors_uploaded(anchors=refused)))


@pytest.mark.parametrize(
    ("accepted", "refused"),
    [
        (anchor("x" * 64), anchor("x" * 65)),
        (anchor("å"), anchor("a\u030a")),
        (anchor(grade="x" * 50), anchor(grade="x" * 51)),
        (anchor("a-b"), anchor("a/b")),
    ],
)
def test_an_anchor_has_an_id_and_a_grade_of_bounded_length(
    accepted: Anchor, refused: Anchor
) -> None:
    assert_accepted(anchors_uploaded(accepted))
    with pytest.raises(Malformed, match=r"anchor_id|grade"):
        CODEC.decode(CODEC.encode(anchors_uploaded(refused)))
