"""The resolution table of the design, row by row."""

import pytest

from processors.outcomes.resolve import Prepared, Unresolved, resolve, scope_key_for
from processors.policy import Policy
from schemas.events import AssignmentContext, CJAssessmentRequested
from tests.support.builders import (
    READY,
    context_after,
    instructions_deleted,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    rubric_uploaded,
)

FULL = context_after(*READY)
WITHOUT_PROMPT = context_after(instructions_uploaded(), rubric_uploaded())
WITHOUT_RUBRIC = context_after(instructions_uploaded(), prompt_uploaded())
ONLY_PROMPT = context_after(prompt_uploaded())
COURSE = context_after(instructions_uploaded(assignment_id=None, course_id="ENG5"))
COURSE_DELETED = context_after(
    instructions_uploaded(assignment_id=None, course_id="ENG5"),
    instructions_deleted(assignment_id=None, course_id="ENG5"),
)


def may_wait(
    missing: tuple[str, ...], context: AssignmentContext | None
) -> Unresolved[AssignmentContext]:
    """The resolution of a request that names an incomplete assignment; only such a request may wait."""
    return Unresolved("assignment:a1", missing, context, may_wait=True)


NO_PROMPT = may_wait(("student_prompt",), WITHOUT_PROMPT)
ALL_ROLES = Policy(required=("instructions", "student_prompt", "judge_rubric"))
NO_GUESTS = Policy(guests_allowed=False)
PLAIN = requested()
EXPLICIT = requested(student_prompt_ref="own")
NO_ASSIGNMENT = requested(assignment_id=None)
EXPLICIT_NO_ASSIGNMENT = requested(assignment_id=None, student_prompt_ref="own")

TABLE = {
    "explicit prompt, complete context": (EXPLICIT, FULL, Policy(), Prepared("assignment", FULL)),
    "explicit prompt replaces a missing prompt": (
        EXPLICIT,
        WITHOUT_PROMPT,
        Policy(),
        Prepared("assignment", WITHOUT_PROMPT),
    ),
    "explicit prompt replaces no other role": (
        EXPLICIT,
        ONLY_PROMPT,
        Policy(),
        may_wait(("instructions",), ONLY_PROMPT),
    ),
    "explicit prompt, unknown assignment": (
        EXPLICIT,
        None,
        Policy(),
        may_wait(("instructions",), None),
    ),
    "assignment is complete": (PLAIN, FULL, Policy(), Prepared("assignment", FULL)),
    "the rubric is not required": (
        PLAIN,
        WITHOUT_RUBRIC,
        Policy(),
        Prepared("assignment", WITHOUT_RUBRIC),
    ),
    "the rubric is required": (
        PLAIN,
        WITHOUT_RUBRIC,
        ALL_ROLES,
        may_wait(("judge_rubric",), WITHOUT_RUBRIC),
    ),
    "assignment has no prompt": (PLAIN, WITHOUT_PROMPT, Policy(), NO_PROMPT),
    "assignment has no instructions": (
        PLAIN,
        ONLY_PROMPT,
        Policy(),
        may_wait(("instructions",), ONLY_PROMPT),
    ),
    "assignment is unknown": (
        PLAIN,
        None,
        Policy(),
        may_wait(("instructions", "student_prompt"), None),
    ),
    "nothing is required of an assignment": (
        PLAIN,
        None,
        Policy(required=()),
        Prepared("assignment", None),
    ),
    "no assignment, the course is known": (
        NO_ASSIGNMENT,
        COURSE,
        Policy(),
        Prepared("course", COURSE),
    ),
    "no assignment, the course is known, no guests": (
        NO_ASSIGNMENT,
        COURSE,
        NO_GUESTS,
        Prepared("course", COURSE),
    ),
    "no assignment, explicit prompt, the course is known": (
        EXPLICIT_NO_ASSIGNMENT,
        COURSE,
        Policy(),
        Prepared("course", COURSE),
    ),
    "unknown course: a guest": (NO_ASSIGNMENT, None, Policy(), Prepared("guest", None)),
    "the course's instructions were deleted: a guest": (
        NO_ASSIGNMENT,
        COURSE_DELETED,
        Policy(),
        Prepared("guest", None),
    ),
    "unknown course, no guests": (
        NO_ASSIGNMENT,
        None,
        NO_GUESTS,
        Unresolved("course:ENG5", ("instructions",), None),
    ),
    "deleted course, no guests": (
        NO_ASSIGNMENT,
        COURSE_DELETED,
        NO_GUESTS,
        Unresolved("course:ENG5", ("instructions",), COURSE_DELETED),
    ),
}


@pytest.mark.parametrize(
    ("request_", "context", "policy", "resolution"), TABLE.values(), ids=TABLE.keys()
)
def test_a_request_is_resolved_as_its_row_says(
    request_: CJAssessmentRequested,
    context: AssignmentContext | None,
    policy: Policy,
    resolution: Prepared[AssignmentContext] | Unresolved[AssignmentContext],
) -> None:
    assert resolve(request_, context, policy) == resolution


def test_a_deleted_prompt_is_missing() -> None:
    context = context_after(*READY, prompt_deleted())
    assert resolve(PLAIN, context, Policy()) == may_wait(("student_prompt",), context)


def test_the_missing_roles_come_in_the_order_of_the_policy() -> None:
    policy = Policy(required=("judge_rubric", "instructions"))
    assert policy.missing_from(None, brings_prompt=False) == ("judge_rubric", "instructions")


def test_an_assignment_comes_before_its_course() -> None:
    assert [scope_key_for(request) for request in (PLAIN, NO_ASSIGNMENT)] == [
        "assignment:a1",
        "course:ENG5",
    ]
