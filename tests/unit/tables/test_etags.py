"""Tags: their text, and what is no tag."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Malformed
from tables.etags import (
    AssignmentETag,
    Condition,
    ETag,
    assignment_etag_of,
    etag_of,
    parse_assignment_etag,
    parse_etag,
)
from tests.support.builders import (
    context_after,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
)

TAGS = st.just(ETag()) | st.builds(ETag, st.integers(1, 2**62), st.integers(0, 2**62))


@given(TAGS)
def test_a_tag_is_read_back_from_its_text(tag: ETag) -> None:
    assert parse_etag(str(tag)) == tag


@given(st.builds(AssignmentETag, TAGS, TAGS, TAGS))
def test_an_assignments_tag_is_read_back_from_its_text(tag: AssignmentETag) -> None:
    assert parse_assignment_etag(str(tag)) == tag


def test_a_tag_says_version_and_offset() -> None:
    context = context_after(instructions_uploaded(version=3))
    assert str(etag_of(context.instructions)) == "3-0"
    assert str(etag_of(context.judge_rubric)) == "0"


def test_an_assignments_tag_counts_deletions() -> None:
    context = context_after(prompt_uploaded(), instructions_uploaded(), prompt_deleted())
    assert str(assignment_etag_of(context)) == "i1-1.p2-2.r0"
    assert str(assignment_etag_of(None)) == "i0.p0.r0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "-",
        "3-",
        "-4",
        "0-4",
        "03-4",
        "3-04",
        "3-4 ",
        "+3-4",
        "³-4",
        "*",
        '"3-4"',
        "9" * 30,
    ],
)
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_etag(text)


@pytest.mark.parametrize(
    "text", ["", "3-41", "i0.p0", "i0.r0.p0", "i0.p0.r0.", "i0.p0.r0.x0", "i.p.r", "I0.P0.R0"]
)
def test_what_is_no_tag_of_an_assignment_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_assignment_etag(text)


def test_a_condition_tells_what_it_expects() -> None:
    assert str(Condition(if_match=("3-41", "4-50"))) == "3-41, 4-50"
    assert str(Condition(if_none_match_any=True)) == "nothing live"
    assert not Condition(required=True).is_given
