"""A kept row against the one that the log gives."""

from dataclasses import replace

import pytest

from schemas.coordinates import Partition, Positions
from schemas.events import AssignmentContext
from tables.context import merge, only
from tables.history.row_diff import differences
from tests.support.builders import (
    TOPIC_OF,
    at,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
)

PROMPTS = Partition(TOPIC_OF["student_prompt"], 0)
ENDS: Positions = {Partition(topic, 0): 10 for topic in TOPIC_OF.values()}


def row(offset: int | None) -> AssignmentContext:
    """A scope with instructions at offset 3 and a prompt at an offset."""
    instructions = only(instructions_uploaded(), at(instructions_uploaded(), 3), 1)
    if offset is None:
        return instructions
    prompt = prompt_uploaded(version=offset)
    return merge(instructions, only(prompt, at(prompt, offset), 1))


@pytest.mark.parametrize(
    ("expected", "found", "kinds"),
    [
        (5, 5, []),
        (5, None, ["missing"]),
        (5, 4, ["behind"]),
        (5, 6, ["ahead"]),
        (None, 6, ["ahead"]),
        (5, 10, []),  # past the end: it is not judged
        (None, 11, []),
    ],
)
def test_what_differs_is_told_by_role(
    expected: int | None, found: int | None, kinds: list[str]
) -> None:
    told = list(differences("assignment:a1", row(expected), row(found), ENDS))
    assert [(one.role, one.kind) for one in told] == [("student_prompt", kind) for kind in kinds]


def test_another_content_at_the_same_place_is_a_difference() -> None:
    forged = prompt_deleted(version=5)
    other = replace(row(None), student_prompt=only(forged, at(forged, 5), 1).student_prompt)
    (told,) = differences("assignment:a1", row(5), other, ENDS)
    assert (told.kind, told.expected, told.found) == (
        "other",
        row(5).student_prompt,
        other.student_prompt,
    )


def test_a_scope_that_is_kept_nowhere_or_known_to_nobody_differs_role_by_role() -> None:
    assert [one.kind for one in differences("a", row(5), None, ENDS)] == ["missing", "missing"]
    assert [one.kind for one in differences("a", None, row(5), ENDS)] == ["ahead", "ahead"]
    assert list(differences("a", None, None, ENDS)) == []
