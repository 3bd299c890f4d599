"""A stored row compared with the row that the log gives."""

from dataclasses import replace

import pytest

from schemas.coordinates import Partition, Positions
from schemas.events import AssignmentContext
from tables.context import context_from, merge
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
    instructions = context_from(instructions_uploaded(), at(instructions_uploaded(), 3), 1)
    if offset is None:
        return instructions
    prompt = prompt_uploaded(version=offset)
    return merge(instructions, context_from(prompt, at(prompt, offset), 1))


@pytest.mark.parametrize(
    ("expected", "found", "kinds"),
    [
        (5, 5, []),
        (5, None, ["missing"]),
        (5, 4, ["behind"]),
        (5, 6, ["ahead"]),
        (None, 6, ["ahead"]),
        (5, 10, []),  # past the end: not compared
        (None, 11, []),
    ],
)
def test_differences_are_reported_by_role(
    expected: int | None, found: int | None, kinds: list[str]
) -> None:
    reported = list(differences("assignment:a1", row(expected), row(found), ENDS))
    assert [(difference.role, difference.kind) for difference in reported] == [
        ("student_prompt", kind) for kind in kinds
    ]


def test_other_content_at_the_same_coordinates_is_a_difference() -> None:
    forged = prompt_deleted(version=5)
    other = replace(row(None), student_prompt=context_from(forged, at(forged, 5), 1).student_prompt)
    (difference,) = differences("assignment:a1", row(5), other, ENDS)
    assert (difference.kind, difference.expected, difference.found) == (
        "other",
        row(5).student_prompt,
        other.student_prompt,
    )


def test_a_scope_only_in_the_log_or_only_stored_differs_in_every_role() -> None:
    assert [difference.kind for difference in differences("a", row(5), None, ENDS)] == [
        "missing",
        "missing",
    ]
    assert [difference.kind for difference in differences("a", None, row(5), ENDS)] == [
        "ahead",
        "ahead",
    ]
    assert list(differences("a", None, None, ENDS)) == []
