"""The check of one changelog row against the replica."""

from dataclasses import replace

import pytest

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.events import AssignmentContext
from schemas.partitioner import partition_for
from tables.changelog_row import FoundProblem, Problem, RowChecker, is_misplaced
from tables.context import context_from, merge
from tests.support.builders import OF_LATER_RELEASE, instructions_uploaded, prompt_uploaded

CODEC = Codec()
TOPICS = ("instructions", "prompts", "rubrics")
KEY = b"assignment:a1"
PARTITION = partition_for(KEY, 4)
INSTRUCTIONS, PROMPTS = Partition("instructions", PARTITION), Partition("prompts", PARTITION)
POSITIONS = {INSTRUCTIONS: 20, PROMPTS: 20, Partition("rubrics", PARTITION): 0}
CHECKER = RowChecker(CODEC, TOPICS, 4)


def instructions(
    offset: int, *, topic: str = "instructions", version: int = 1
) -> AssignmentContext:
    event = instructions_uploaded(assignment_id="a1", version=version)
    return context_from(event, Coordinates(topic, PARTITION, offset), 1000)


def prompt(offset: int) -> AssignmentContext:
    event = prompt_uploaded(assignment_id="a1")
    return context_from(event, Coordinates("prompts", PARTITION, offset), 1000)


KNOWN = merge(instructions(10), prompt(5))


def check(
    row: AssignmentContext | bytes | None,
    known: AssignmentContext | None = KNOWN,
    log_end: int | None = None,
) -> FoundProblem | None:
    value = CODEC.encode(row) if isinstance(row, AssignmentContext) else row
    ends = None if log_end is None else dict.fromkeys(POSITIONS, log_end)
    return CHECKER.check(KEY, PARTITION, value, known, POSITIONS, ends)


def test_a_row_that_the_fold_has_not_published_yet_lacks_uploads_and_says_up_to_where() -> None:
    assert check(instructions(10)) == FoundProblem(Problem.BEHIND, {PROMPTS: 6})
    assert check(merge(instructions(3), prompt(5))) == FoundProblem(
        Problem.BEHIND, {INSTRUCTIONS: 11}
    )
    assert check(None) == FoundProblem(Problem.BEHIND, {INSTRUCTIONS: 11, PROMPTS: 6})


def test_a_row_with_an_upload_that_the_replica_has_yet_to_fold_is_not_wrong() -> None:
    newer = merge(KNOWN, instructions(25))
    assert check(newer) == check(newer, log_end=26)
    assert check(newer) == FoundProblem(Problem.AHEAD, is_unproven=True)
    assert check(instructions(25), known=None, log_end=26) == check(newer)


@pytest.mark.parametrize(
    ("row", "known", "problem"),
    [
        (merge(KNOWN, instructions(25)), KNOWN, Problem.AHEAD),  # beyond the end of the log
        (merge(KNOWN, instructions(2**62)), KNOWN, Problem.AHEAD),
        (merge(KNOWN, instructions(15)), KNOWN, Problem.AHEAD),  # no upload of the scope there
        (merge(prompt(5), instructions(10, topic="other")), KNOWN, Problem.AHEAD),
        (merge(prompt(5), instructions(10, version=9)), KNOWN, Problem.OTHER),
        (replace(KNOWN, fold_version=0), KNOWN, Problem.OTHER),
        (replace(KNOWN, scope_key="assignment:a2"), KNOWN, Problem.DAMAGED),
        (b"damaged", KNOWN, Problem.DAMAGED),
        (CODEC.encode(instructions_uploaded()), KNOWN, Problem.DAMAGED),
        (b"damaged", None, Problem.DAMAGED),
        (instructions(15), None, Problem.UNKNOWN_SCOPE),
        (instructions(2**62), None, Problem.UNKNOWN_SCOPE),
        (replace(KNOWN, instructions=None, student_prompt=None), None, Problem.UNKNOWN_SCOPE),
    ],
)
def test_a_row_that_no_upload_explains_is_wrong(
    row: AssignmentContext | bytes, known: AssignmentContext | None, problem: Problem
) -> None:
    assert check(row, known, log_end=25) == FoundProblem(problem)


@pytest.mark.parametrize("known", [KNOWN, None])
def test_a_row_of_a_later_release_and_a_tombstone_of_nothing_are_right(
    known: AssignmentContext | None,
) -> None:
    assert check(OF_LATER_RELEASE, known) is None
    assert check(known and CODEC.encode(known), known) is None


def test_a_key_is_misplaced_outside_its_partition_or_if_it_is_no_text() -> None:
    assert not is_misplaced(KEY, PARTITION, 4)
    assert is_misplaced(KEY, (PARTITION + 1) % 4, 4)
    assert all(
        is_misplaced(key, number, 4) for key in (b"\xff\xfe", b"", None) for number in range(4)
    )
