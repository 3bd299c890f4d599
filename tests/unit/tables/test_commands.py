"""Changes: what they come to in the context that they meet."""

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import (
    ConditionRequired,
    Immutable,
    Malformed,
    NotLive,
    Refusal,
    VersionConflict,
)
from schemas.events import (
    ROLES,
    AssignmentContext,
    InstructionsUploaded,
    StudentPromptUploaded,
    UploadEvent,
    role_of,
)
from schemas.field_limits import MAX_LONG
from tables.commands import (
    ASSIGNMENT,
    DELETE,
    NewInstructions,
    TextRef,
    WriteCommand,
    WriteDecision,
    WriteMetadata,
    decide,
    erasure_of,
)
from tables.context import apply, component_of, is_live, live
from tables.etags import Condition, assignment_etag_of, etag_of
from tests.support.builders import (
    READY,
    at,
    context_after,
    contexts_of_assignment,
    instructions_deleted,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    rubric_uploaded,
    sha256_of,
)

WRITING = WriteMetadata(actor="admin", correlation_id="c-9", occurred_at_ms=1_800_000_000_000)
SCALE, OTHER_SCALE = "swedish_8_anchor", "eng5_np_national_9_step"
ORIGIN, OTHER_ORIGIN = "research_experiment", "canonical_national"


def text(said: str) -> TextRef:
    sha256 = sha256_of(said)
    size_bytes = len(said.encode())
    return TextRef(storage_id=sha256, sha256=sha256, media_type="text/plain", size_bytes=size_bytes)


def instructions(said: str | None = "Judge the argument.", **changes: Any) -> NewInstructions:
    given_text = None if said is None else text(said)
    return replace(NewInstructions(text=given_text, grade_scale=SCALE), **changes)


def change(condition: Condition = Condition(), **asked: Any) -> WriteCommand:  # noqa: B008
    scope = {"assignment_id": "a1", "course_id": None, "condition_on": "instructions"}
    return WriteCommand(**{**scope, "condition": condition, **asked})


def seen(*tags: str) -> Condition:
    return Condition(if_match=tags)


CREATE_ONLY = Condition(if_none_match_any=True)


def decided(context: AssignmentContext | None, asked: WriteCommand) -> WriteDecision:
    numbers = count(1)
    return decide(context, asked, WRITING, lambda: f"new-{next(numbers)}")


def after(context: AssignmentContext | None, events: tuple[UploadEvent, ...]) -> Any:
    for offset, event in enumerate(events, 1000):
        context = apply(context, event, at(event, offset), 1)
    return context


# what is created, replaced and kept


def test_instructions_are_created() -> None:
    decision = decided(None, change(instructions=instructions()))
    assert decision == WriteDecision(
        events=(
            InstructionsUploaded(
                event_id="new-1",
                assignment_id="a1",
                version=1,
                actor="admin",
                correlation_id="c-9",
                occurred_at_ms=WRITING.occurred_at_ms,
                created_at_ms=WRITING.occurred_at_ms,
                storage_id=sha256_of("Judge the argument."),
                sha256=sha256_of("Judge the argument."),
                media_type="text/plain",
                size_bytes=19,
                grade_scale=SCALE,
                context_origin=ORIGIN,
            ),
        ),
        outcomes={"instructions": "created"},
        outcome="created",
    )


def test_instructions_are_replaced_and_prompt_and_rubric_stay() -> None:
    context = context_after(*READY)
    decision = decided(context, change(instructions=instructions("Judge the style.")))
    (event,) = decision.events
    assert isinstance(event, InstructionsUploaded)
    assert (event.version, event.previous_event_id) == (2, "i-1")
    assert event.created_at_ms == READY[0].created_at_ms
    assert decision.outcome == "replaced"
    folded = after(context, decision.events)
    assert (folded.student_prompt, folded.judge_rubric) == (
        context.student_prompt,
        context.judge_rubric,
    )


def test_an_absent_origin_keeps_the_one_that_lives() -> None:
    context = context_after(instructions_uploaded(context_origin=OTHER_ORIGIN))
    (event,) = decided(context, change(instructions=instructions("Judge the style."))).events
    assert isinstance(event, InstructionsUploaded)
    assert event.context_origin == OTHER_ORIGIN


def test_absent_fields_of_a_part_keep_what_lives() -> None:
    context = context_after(*READY)
    part = NewInstructions(text=text("Judge the style."))
    (event,) = decided(context, change(instructions=part, needs_live="instructions")).events
    assert isinstance(event, InstructionsUploaded)
    assert (event.grade_scale, event.context_origin) == (SCALE, ORIGIN)


@pytest.mark.parametrize("part", [NewInstructions(), None, instructions(None), instructions()])
def test_what_changes_nothing_appends_nothing(part: NewInstructions | None) -> None:
    asked = change(instructions=part, needs_live="instructions")
    decision = decided(context_after(*READY), asked)
    assert (decision.events, decision.outcome) == ((), "unchanged")


def test_the_same_bytes_under_another_media_type_are_the_same_text() -> None:
    same = replace(text("Should homework be banned?"), media_type="text/markdown")
    asked = change(student_prompt=same, condition_on="student_prompt")
    assert decided(context_after(*READY), asked).outcomes == {"student_prompt": "unchanged"}


def test_a_prompt_that_comes_with_the_instructions_is_an_event_of_its_own() -> None:
    asked = change(instructions=instructions(), student_prompt=text("Is rain good?"))
    decision = decided(context_after(*READY), asked)
    assert [type(event) for event in decision.events] == [StudentPromptUploaded]
    assert decision.outcomes == {"instructions": "unchanged", "student_prompt": "replaced"}
    assert decision.outcome == "replaced"


def test_a_role_is_unset_by_a_part() -> None:
    asked = change(judge_rubric=DELETE, needs_live="instructions")
    decision = decided(context_after(*READY), asked)
    assert decision.outcomes == {"judge_rubric": "deleted"}
    assert decision.outcome == "replaced"


def test_unsetting_what_is_not_live_changes_nothing() -> None:
    context = context_after(instructions_uploaded(), prompt_uploaded(), prompt_deleted())
    for asked in (change(student_prompt=DELETE), change(judge_rubric=DELETE)):
        assert decided(context, asked).events == ()


def test_after_a_deletion_everything_may_be_made_anew() -> None:
    context = context_after(instructions_uploaded(), instructions_deleted())
    asked = instructions(grade_scale=OTHER_SCALE, context_origin=OTHER_ORIGIN)
    decision = decided(context, change(instructions=asked))
    (event,) = decision.events
    assert isinstance(event, InstructionsUploaded)
    assert (event.version, event.previous_event_id) == (3, "i-2")
    assert event.created_at_ms == WRITING.occurred_at_ms
    assert decision.outcome == "created"


def test_a_whole_assignment_is_created_in_the_order_of_roles() -> None:
    asked = change(
        judge_rubric=text("Weigh structure."),
        student_prompt=text("Is rain good?"),
        instructions=instructions(),
        condition_on=ASSIGNMENT,
    )
    decision = decided(None, asked)
    assert [role_of(event) for event in decision.events] == list(ROLES)
    assert (decision.outcome, set(decision.outcomes.values())) == ("created", {"created"})


def test_a_whole_assignment_of_which_something_lives_is_replaced() -> None:
    asked = change(instructions=instructions(), condition_on=ASSIGNMENT)
    decision = decided(context_after(prompt_uploaded()), asked)
    assert (decision.outcomes, decision.outcome) == ({"instructions": "created"}, "replaced")


def test_a_course_has_an_event_without_assignment() -> None:
    asked = change(assignment_id=None, course_id="ENG5", instructions=instructions())
    (event,) = decided(None, asked).events
    assert (event.assignment_id, getattr(event, "course_id", None)) == (None, "ENG5")


def test_a_number_that_a_foreign_producer_used_up_stays() -> None:
    context = context_after(prompt_uploaded(version=MAX_LONG))
    asked = change(student_prompt=text("Is rain good?"), condition_on="student_prompt")
    (event,) = decided(context, asked).events
    assert event.version == MAX_LONG


# what is deleted


def test_deleting_an_assignments_instructions_deletes_what_else_lives() -> None:
    context = context_after(instructions_uploaded(), rubric_uploaded())
    decision = decided(context, change(instructions=DELETE, needs_live="instructions"))
    assert decision.outcomes == {"instructions": "deleted", "judge_rubric": "deleted"}
    assert decision.outcome == "deleted"
    assert [(event.version, event.previous_event_id) for event in decision.events] == [
        (2, "i-1"),
        (2, "r-1"),
    ]


def test_deleting_a_prompt_leaves_the_rest() -> None:
    asked = change(
        student_prompt=DELETE, needs_live="student_prompt", condition_on="student_prompt"
    )
    decision = decided(context_after(*READY), asked)
    assert (decision.outcomes, decision.outcome) == ({"student_prompt": "deleted"}, "deleted")


# what is refused


@pytest.mark.parametrize(
    ("context", "was_deleted"),
    [
        (None, False),
        (context_after(prompt_uploaded()), False),
        (context_after(instructions_uploaded(), instructions_deleted()), True),
    ],
)
def test_what_needs_live_instructions_is_refused_without(
    context: AssignmentContext | None, was_deleted: bool
) -> None:
    asked = change(instructions=DELETE, needs_live="instructions")
    with pytest.raises(NotLive) as refusal:
        decided(context, asked)
    assert (refusal.value.role, refusal.value.was_deleted) == ("instructions", was_deleted)


@pytest.mark.parametrize(
    ("asked", "field", "current"),
    [
        (instructions(grade_scale=OTHER_SCALE), "grade_scale", SCALE),
        (instructions(context_origin=OTHER_ORIGIN), "context_origin", ORIGIN),
    ],
)
def test_what_is_fixed_while_the_instructions_live_is_refused(
    asked: NewInstructions, field: str, current: str
) -> None:
    with pytest.raises(Immutable) as refusal:
        decided(context_after(*READY), change(instructions=asked))
    assert (refusal.value.field, refusal.value.current) == (field, current)


def test_what_would_fail_anyway_is_told_before_the_condition() -> None:
    bad = seen("9-99")
    with pytest.raises(NotLive):
        decided(None, change(bad, instructions=DELETE, needs_live="instructions"))
    asked = change(bad, instructions=instructions(grade_scale=OTHER_SCALE))
    with pytest.raises(Immutable):
        decided(context_after(*READY), asked)


SECOND = context_after(instructions_uploaded(), instructions_uploaded("Two.", version=2))
GONE = context_after(instructions_uploaded(), instructions_deleted())


@pytest.mark.parametrize(
    ("context", "condition"),
    [
        (SECOND, seen("2-1")),
        (SECOND, seen("7-1")),  # the offset counts, not the number
        (SECOND, seen("1-0", "2-1")),
        (SECOND, seen("*")),
        (None, CREATE_ONLY),
        (GONE, CREATE_ONLY),
    ],
)
def test_a_change_passes_whose_condition_holds(
    context: AssignmentContext | None, condition: Condition
) -> None:
    assert decided(context, change(condition, instructions=instructions("Three."))).events


@pytest.mark.parametrize(
    ("context", "condition", "expected", "version", "tag"),
    [
        (SECOND, seen("1-0"), "1-0", 2, "2-1"),
        (SECOND, seen("2-0"), "2-0", 2, "2-1"),  # the same number elsewhere in the log
        (SECOND, seen("0"), "0", 2, "2-1"),
        (SECOND, CREATE_ONLY, "nothing live", 2, "2-1"),
        (GONE, seen("2-1"), "2-1", 2, "2-1"),  # at that offset, but deleted
        (GONE, seen("*"), "*", 2, "2-1"),
        (None, seen("*"), "*", 0, "0"),
        (None, seen("0"), "0", 0, "0"),
        (None, seen("1-0"), "1-0", 0, "0"),
    ],
)
def test_a_change_is_refused_whose_condition_does_not_hold(
    context: AssignmentContext | None, condition: Condition, expected: str, version: int, tag: str
) -> None:
    with pytest.raises(VersionConflict) as refusal:
        decided(context, change(condition, instructions=instructions("Three.")))
    told = refusal.value
    assert (told.expected, told.current_version, told.current_tag) == (expected, version, tag)


def test_a_change_that_changes_nothing_is_held_to_its_condition_too() -> None:
    with pytest.raises(VersionConflict):
        decided(context_after(*READY), change(seen("4-4"), instructions=instructions()))


def test_an_assignments_tag_is_of_all_three() -> None:
    context = context_after(*READY)
    now = str(assignment_etag_of(context))
    asked = {"student_prompt": text("Is rain good?"), "condition_on": ASSIGNMENT}
    assert decided(context, change(seen(now), **asked)).events
    for other in ("i1-0.p1-1.r0", "i1-0.p1-1.r1-9", "i0.p0.r0"):
        with pytest.raises(VersionConflict) as refusal:
            decided(context, change(seen(other), **asked))
        assert refusal.value.current_tag == now
    with pytest.raises(VersionConflict):
        decided(context, change(CREATE_ONLY, **asked))
    with pytest.raises(VersionConflict):
        decided(None, change(seen("*"), instructions=instructions(), condition_on=ASSIGNMENT))


def test_a_deletion_takes_the_instructions_tag_or_the_assignments() -> None:
    context = context_after(*READY)
    gone = {"instructions": DELETE, "needs_live": "instructions"}
    assert len(decided(context, change(seen("1-0"), **gone)).events) == 3
    assert len(decided(context, change(seen("i1-0.p1-1.r1-2"), **gone)).events) == 3
    with pytest.raises(VersionConflict):
        decided(context, change(seen("i1-0.p1-1.r0"), **gone))


def test_a_tag_of_the_wrong_kind_is_malformed() -> None:
    context = context_after(*READY)
    with pytest.raises(Malformed):
        decided(context, change(seen("i1-0.p1-1.r1-2"), instructions=instructions()))
    with pytest.raises(Malformed):
        decided(context, change(seen("1-0"), instructions=instructions(), condition_on=ASSIGNMENT))


def test_a_change_without_condition_is_refused_where_one_is_required() -> None:
    required = Condition(required=True)
    with pytest.raises(ConditionRequired) as refusal:
        decided(SECOND, change(required, instructions=instructions()))
    assert (refusal.value.current_version, refusal.value.current_tag) == (2, "2-1")
    assert decided(None, change(replace(CREATE_ONLY, required=True), instructions=instructions()))


def test_an_event_that_would_break_a_limit_is_never_made() -> None:
    with pytest.raises(Malformed):
        decided(None, change(instructions=instructions(grade_scale="No Slug")))


def test_there_must_be_something_to_keep() -> None:
    with pytest.raises(ValueError, match="need a text and a grade scale"):
        decided(None, change(instructions=NewInstructions(grade_scale=SCALE)))


@pytest.mark.parametrize(
    "scope",
    [
        {"assignment_id": None},
        {"course_id": "ENG5"},
        {"assignment_id": None, "course_id": "ENG5", "student_prompt": DELETE},
    ],
)
def test_a_change_is_of_one_scope_and_a_course_has_instructions_only(scope: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="course"):
        change(**scope)


# whatever was there before

TEXTS = st.sampled_from(["Judge the argument.", "Judge the style.", "Is rain good?"]).map(text)
NEW_INSTRUCTIONS = st.builds(
    NewInstructions, text=TEXTS, grade_scale=st.just(SCALE), context_origin=st.none()
)
CONTEXTS = contexts_of_assignment("a1")
CHANGES = st.builds(
    WriteCommand,
    assignment_id=st.just("a1"),
    course_id=st.none(),
    instructions=st.none() | st.just(DELETE) | NEW_INSTRUCTIONS,
    student_prompt=st.none() | st.just(DELETE) | TEXTS,
    judge_rubric=st.none() | st.just(DELETE) | TEXTS,
    needs_live=st.none() | st.sampled_from([*ROLES, ASSIGNMENT]),
    condition_on=st.sampled_from([*ROLES, ASSIGNMENT]),
)


def made(context: AssignmentContext | None, asked: WriteCommand) -> WriteDecision | None:
    try:
        return decided(context, asked)
    except Refusal:
        return None


@given(CONTEXTS, CHANGES)
def test_every_event_follows_the_component_before_it(
    context: AssignmentContext | None, asked: WriteCommand
) -> None:
    decision = made(context, asked)
    for event in decision.events if decision else ():
        known = component_of(context, role_of(event))
        living = live(context, role_of(event))
        assert event.version == (min(known.version + 1, MAX_LONG) if known else 1)
        assert event.previous_event_id == (known.event_id if known else None)
        if living and hasattr(event, "created_at_ms"):
            assert event.created_at_ms == living.created_at_ms


@given(CONTEXTS, CHANGES)
def test_made_again_a_change_changes_nothing(
    context: AssignmentContext | None, asked: WriteCommand
) -> None:
    decision = made(context, asked)
    if decision is None:
        return
    folded = after(context, decision.events)
    again = made(folded, replace(asked, needs_live=None))
    assert again is not None
    assert (again.events, again.outcome) == ((), "unchanged")


@given(CONTEXTS, CHANGES)
def test_roles_end_as_wanted_and_the_others_stay(
    context: AssignmentContext | None, asked: WriteCommand
) -> None:
    decision = made(context, asked)
    if decision is None:
        return
    folded = after(context, decision.events)
    for role in ROLES:
        wanted = getattr(asked, role)
        if wanted is DELETE or asked.instructions is DELETE:
            assert not is_live(folded, role)
        elif wanted is None:
            assert component_of(folded, role) == component_of(context, role)
        else:
            assert is_live(folded, role)


@given(CONTEXTS, CHANGES, st.data())
def test_of_two_that_saw_the_same_only_one_is_made(
    context: AssignmentContext | None, asked: WriteCommand, data: st.DataObject
) -> None:
    asked = replace(asked, condition_on=data.draw(st.sampled_from([*ROLES])))
    before = live(context, asked.condition_on)
    if before is None:
        return
    asked = replace(asked, condition=seen(str(etag_of(before))))
    decision = made(context, asked)
    if decision and asked.condition_on in {role_of(event) for event in decision.events}:
        with pytest.raises(Refusal):
            decided(after(context, decision.events), replace(asked, needs_live=None))


@given(CONTEXTS)
def test_an_erasure_erases_every_role_there_ever_was_once(
    context: AssignmentContext | None,
) -> None:
    asked = erasure_of("assignment:a1")
    decision = decided(context, asked)
    folded = after(context, decision.events)
    for role in ROLES:
        before, now = component_of(context, role), component_of(folded, role)
        if before is None or now is None or before.erased:
            assert now == before
        else:
            version = min(before.version + 1, MAX_LONG)
            assert (now.is_deletion, now.erased, now.version) == (True, True, version)
            assert now.previous_event_id == before.event_id
    assert decided(folded, asked).events == ()


def test_a_deletion_is_erased_by_one_more_and_a_course_has_instructions_only() -> None:
    deleted = context_after(instructions_uploaded(), instructions_deleted())
    (event,) = decided(deleted, erasure_of("assignment:a1")).events
    assert (event.version, getattr(event, "erased", None)) == (3, True)
    course = context_after(instructions_uploaded(assignment_id=None, course_id="ENG5"))
    (event,) = decided(course, erasure_of("course:ENG5")).events
    assert (getattr(event, "course_id", None), getattr(event, "erased", None)) == ("ENG5", True)
    assert erasure_of("assignment:a:b").scope_key == "assignment:a:b"
