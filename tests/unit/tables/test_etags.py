"""Etags: their text form, and invalid ones."""

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

ETAGS = st.just(ETag()) | st.builds(ETag, st.integers(1, 2**62), st.integers(0, 2**62))


@given(ETAGS)
def test_an_etag_is_parsed_from_its_text(etag: ETag) -> None:
    assert parse_etag(str(etag)) == etag


@given(st.builds(AssignmentETag, ETAGS, ETAGS, ETAGS))
def test_an_assignment_etag_is_parsed_from_its_text(etag: AssignmentETag) -> None:
    assert parse_assignment_etag(str(etag)) == etag


def test_an_etag_is_version_and_offset() -> None:
    context = context_after(instructions_uploaded(version=3))
    assert str(etag_of(context.instructions)) == "3-0"
    assert str(etag_of(context.judge_rubric)) == "0"


def test_an_assignment_etag_includes_deletions() -> None:
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
def test_an_invalid_etag_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_etag(text)


@pytest.mark.parametrize(
    "text", ["", "3-41", "i0.p0", "i0.r0.p0", "i0.p0.r0.", "i0.p0.r0.x0", "i.p.r", "I0.P0.R0"]
)
def test_an_invalid_assignment_etag_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_assignment_etag(text)


def test_the_text_of_a_condition_is_the_expected_state() -> None:
    assert str(Condition(if_match=("3-41", "4-50"))) == "3-41, 4-50"
    assert str(Condition(if_none_match_any=True)) == "nothing live"
    assert not Condition(required=True).is_present
