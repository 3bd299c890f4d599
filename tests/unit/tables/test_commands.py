"""Write commands: the events, outcomes and refusals that each gives in a context."""

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
    erase_command,
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

METADATA = WriteMetadata(actor="admin", correlation_id="c-9", occurred_at_ms=1_800_000_000_000)
SCALE, OTHER_SCALE = "swedish_8_anchor", "eng5_np_national_9_step"
ORIGIN, OTHER_ORIGIN = "research_experiment", "canonical_national"


def text(content: str) -> TextRef:
    sha256 = sha256_of(content)
    size_bytes = len(content.encode())
    return TextRef(storage_id=sha256, sha256=sha256, media_type="text/plain", size_bytes=size_bytes)


def instructions(content: str | None = "Judge the argument.", **changes: Any) -> NewInstructions:
    new_text = None if content is None else text(content)
    return replace(NewInstructions(text=new_text, grade_scale=SCALE), **changes)


def write_command(condition: Condition = Condition(), **fields: Any) -> WriteCommand:  # noqa: B008
    scope = {"assignment_id": "a1", "course_id": None, "condition_on": "instructions"}
    return WriteCommand(**{**scope, "condition": condition, **fields})


def if_match(*etags: str) -> Condition:
    return Condition(if_match=etags)


CREATE_ONLY = Condition(if_none_match_any=True)


def decided(context: AssignmentContext | None, command: WriteCommand) -> WriteDecision:
    numbers = count(1)
    return decide(context, command, METADATA, lambda: f"new-{next(numbers)}")


def context_with(context: AssignmentContext | None, events: tuple[UploadEvent, ...]) -> Any:
    for offset, event in enumerate(events, 1000):
        context = apply(context, event, at(event, offset), 1)
    return context


# create, replace, keep


def test_instructions_are_created() -> None:
    decision = decided(None, write_command(instructions=instructions()))
    assert decision == WriteDecision(
        events=(
            InstructionsUploaded(
                event_id="new-1",
                assignment_id="a1",
                version=1,
                actor="admin",
                correlation_id="c-9",
                occurred_at_ms=METADATA.occurred_at_ms,
                created_at_ms=METADATA.occurred_at_ms,
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
    decision = decided(context, write_command(instructions=instructions("Judge the style.")))
    (event,) = decision.events
    assert isinstance(event, InstructionsUploaded)
    assert (event.version, event.previous_event_id) == (2, "i-1")
    assert event.created_at_ms == READY[0].created_at_ms
    assert decision.outcome == "replaced"
    folded = context_with(context, decision.events)
    assert (folded.student_prompt, folded.judge_rubric) == (
        context.student_prompt,
        context.judge_rubric,
    )


def test_without_an_origin_the_live_origin_is_kept() -> None:
    context = context_after(instructions_uploaded(context_origin=OTHER_ORIGIN))
    (event,) = decided(context, write_command(instructions=instructions("Judge the style."))).events
    assert isinstance(event, InstructionsUploaded)
    assert event.context_origin == OTHER_ORIGIN


def test_omitted_instructions_fields_keep_their_live_values() -> None:
    context = context_after(*READY)
    part = NewInstructions(text=text("Judge the style."))
    (event,) = decided(context, write_command(instructions=part, needs_live="instructions")).events
    assert isinstance(event, InstructionsUploaded)
    assert (event.grade_scale, event.context_origin) == (SCALE, ORIGIN)


@pytest.mark.parametrize("part", [NewInstructions(), None, instructions(None), instructions()])
def test_a_command_that_changes_nothing_appends_no_event(part: NewInstructions | None) -> None:
    command = write_command(instructions=part, needs_live="instructions")
    decision = decided(context_after(*READY), command)
    assert (decision.events, decision.outcome) == ((), "unchanged")


def test_the_same_bytes_under_another_media_type_are_the_same_text() -> None:
    same = replace(text("Should homework be banned?"), media_type="text/markdown")
    command = write_command(student_prompt=same, condition_on="student_prompt")
    assert decided(context_after(*READY), command).outcomes == {"student_prompt": "unchanged"}


def test_a_prompt_sent_with_instructions_is_a_separate_event() -> None:
    command = write_command(instructions=instructions(), student_prompt=text("Is rain good?"))
    decision = decided(context_after(*READY), command)
    assert [type(event) for event in decision.events] == [StudentPromptUploaded]
    assert decision.outcomes == {"instructions": "unchanged", "student_prompt": "replaced"}
    assert decision.outcome == "replaced"


def test_a_command_on_instructions_can_delete_another_role() -> None:
    command = write_command(judge_rubric=DELETE, needs_live="instructions")
    decision = decided(context_after(*READY), command)
    assert decision.outcomes == {"judge_rubric": "deleted"}
    assert decision.outcome == "replaced"


def test_deleting_a_role_that_is_not_live_changes_nothing() -> None:
    context = context_after(instructions_uploaded(), prompt_uploaded(), prompt_deleted())
    for command in (write_command(student_prompt=DELETE), write_command(judge_rubric=DELETE)):
        assert decided(context, command).events == ()


def test_after_a_deletion_every_field_may_change() -> None:
    context = context_after(instructions_uploaded(), instructions_deleted())
    new = instructions(grade_scale=OTHER_SCALE, context_origin=OTHER_ORIGIN)
    decision = decided(context, write_command(instructions=new))
    (event,) = decision.events
    assert isinstance(event, InstructionsUploaded)
    assert (event.version, event.previous_event_id) == (3, "i-2")
    assert event.created_at_ms == METADATA.occurred_at_ms
    assert decision.outcome == "created"


def test_an_assignment_is_created_in_the_order_of_roles() -> None:
    command = write_command(
        judge_rubric=text("Weigh structure."),
        student_prompt=text("Is rain good?"),
        instructions=instructions(),
        condition_on=ASSIGNMENT,
    )
    decision = decided(None, command)
    assert [role_of(event) for event in decision.events] == list(ROLES)
    assert (decision.outcome, set(decision.outcomes.values())) == ("created", {"created"})


def test_an_assignment_with_a_live_role_is_replaced() -> None:
    command = write_command(instructions=instructions(), condition_on=ASSIGNMENT)
    decision = decided(context_after(prompt_uploaded()), command)
    assert (decision.outcomes, decision.outcome) == ({"instructions": "created"}, "replaced")


def test_course_instructions_have_no_assignment_id() -> None:
    command = write_command(assignment_id=None, course_id="ENG5", instructions=instructions())
    (event,) = decided(None, command).events
    assert (event.assignment_id, getattr(event, "course_id", None)) == (None, "ENG5")


def test_the_version_stays_at_the_maximum_if_a_producer_used_it() -> None:
    context = context_after(prompt_uploaded(version=MAX_LONG))
    command = write_command(student_prompt=text("Is rain good?"), condition_on="student_prompt")
    (event,) = decided(context, command).events
    assert event.version == MAX_LONG


# delete


def test_deleting_an_assignments_instructions_deletes_its_other_live_roles() -> None:
    context = context_after(instructions_uploaded(), rubric_uploaded())
    decision = decided(context, write_command(instructions=DELETE, needs_live="instructions"))
    assert decision.outcomes == {"instructions": "deleted", "judge_rubric": "deleted"}
    assert decision.outcome == "deleted"
    assert [(event.version, event.previous_event_id) for event in decision.events] == [
        (2, "i-1"),
        (2, "r-1"),
    ]


def test_deleting_a_prompt_keeps_the_other_roles() -> None:
    command = write_command(
        student_prompt=DELETE, needs_live="student_prompt", condition_on="student_prompt"
    )
    decision = decided(context_after(*READY), command)
    assert (decision.outcomes, decision.outcome) == ({"student_prompt": "deleted"}, "deleted")


# refuse


@pytest.mark.parametrize(
    ("context", "was_deleted"),
    [
        (None, False),
        (context_after(prompt_uploaded()), False),
        (context_after(instructions_uploaded(), instructions_deleted()), True),
    ],
)
def test_a_command_that_needs_live_instructions_is_refused_without_them(
    context: AssignmentContext | None, was_deleted: bool
) -> None:
    command = write_command(instructions=DELETE, needs_live="instructions")
    with pytest.raises(NotLive) as refusal:
        decided(context, command)
    assert (refusal.value.role, refusal.value.was_deleted) == ("instructions", was_deleted)


@pytest.mark.parametrize(
    ("new", "field", "current"),
    [
        (instructions(grade_scale=OTHER_SCALE), "grade_scale", SCALE),
        (instructions(context_origin=OTHER_ORIGIN), "context_origin", ORIGIN),
    ],
)
def test_changing_an_immutable_field_of_live_instructions_is_refused(
    new: NewInstructions, field: str, current: str
) -> None:
    with pytest.raises(Immutable) as refusal:
        decided(context_after(*READY), write_command(instructions=new))
    assert (refusal.value.field, refusal.value.current) == (field, current)


def test_other_refusals_come_before_a_failed_condition() -> None:
    bad = if_match("9-99")
    with pytest.raises(NotLive):
        decided(None, write_command(bad, instructions=DELETE, needs_live="instructions"))
    command = write_command(bad, instructions=instructions(grade_scale=OTHER_SCALE))
    with pytest.raises(Immutable):
        decided(context_after(*READY), command)


SECOND = context_after(instructions_uploaded(), instructions_uploaded("Two.", version=2))
DELETED = context_after(instructions_uploaded(), instructions_deleted())


@pytest.mark.parametrize(
    ("context", "condition"),
    [
        (SECOND, if_match("2-1")),
        (SECOND, if_match("7-1")),  # the offset is compared, not the version
        (SECOND, if_match("1-0", "2-1")),
        (SECOND, if_match("*")),
        (None, CREATE_ONLY),
        (DELETED, CREATE_ONLY),
    ],
)
def test_a_command_with_a_true_condition_is_accepted(
    context: AssignmentContext | None, condition: Condition
) -> None:
    assert decided(context, write_command(condition, instructions=instructions("Three."))).events


@pytest.mark.parametrize(
    ("context", "condition", "expected", "version", "tag"),
    [
        (SECOND, if_match("1-0"), "1-0", 2, "2-1"),
        (SECOND, if_match("2-0"), "2-0", 2, "2-1"),  # the same version at another offset
        (SECOND, if_match("0"), "0", 2, "2-1"),
        (SECOND, CREATE_ONLY, "nothing live", 2, "2-1"),
        (DELETED, if_match("2-1"), "2-1", 2, "2-1"),  # at that offset, but deleted
        (DELETED, if_match("*"), "*", 2, "2-1"),
        (None, if_match("*"), "*", 0, "0"),
        (None, if_match("0"), "0", 0, "0"),
        (None, if_match("1-0"), "1-0", 0, "0"),
    ],
)
def test_a_command_with_a_false_condition_is_refused(
    context: AssignmentContext | None, condition: Condition, expected: str, version: int, tag: str
) -> None:
    with pytest.raises(VersionConflict) as refusal:
        decided(context, write_command(condition, instructions=instructions("Three.")))
    conflict = refusal.value
    assert (conflict.expected, conflict.current_version, conflict.current_tag) == (
        expected,
        version,
        tag,
    )


def test_the_condition_is_checked_even_if_nothing_changes() -> None:
    with pytest.raises(VersionConflict):
        decided(context_after(*READY), write_command(if_match("4-4"), instructions=instructions()))


def test_an_assignment_etag_covers_all_three_roles() -> None:
    context = context_after(*READY)
    now = str(assignment_etag_of(context))
    fields = {"student_prompt": text("Is rain good?"), "condition_on": ASSIGNMENT}
    assert decided(context, write_command(if_match(now), **fields)).events
    for other in ("i1-0.p1-1.r0", "i1-0.p1-1.r1-9", "i0.p0.r0"):
        with pytest.raises(VersionConflict) as refusal:
            decided(context, write_command(if_match(other), **fields))
        assert refusal.value.current_tag == now
    with pytest.raises(VersionConflict):
        decided(context, write_command(CREATE_ONLY, **fields))
    with pytest.raises(VersionConflict):
        decided(
            None, write_command(if_match("*"), instructions=instructions(), condition_on=ASSIGNMENT)
        )


def test_a_deletion_accepts_the_instructions_etag_or_the_assignment_etag() -> None:
    context = context_after(*READY)
    deletion = {"instructions": DELETE, "needs_live": "instructions"}
    assert len(decided(context, write_command(if_match("1-0"), **deletion)).events) == 3
    assert len(decided(context, write_command(if_match("i1-0.p1-1.r1-2"), **deletion)).events) == 3
    with pytest.raises(VersionConflict):
        decided(context, write_command(if_match("i1-0.p1-1.r0"), **deletion))


def test_an_etag_of_the_wrong_kind_is_malformed() -> None:
    context = context_after(*READY)
    with pytest.raises(Malformed):
        decided(context, write_command(if_match("i1-0.p1-1.r1-2"), instructions=instructions()))
    with pytest.raises(Malformed):
        decided(
            context,
            write_command(if_match("1-0"), instructions=instructions(), condition_on=ASSIGNMENT),
        )


def test_a_command_without_a_condition_is_refused_if_one_is_required() -> None:
    required = Condition(required=True)
    with pytest.raises(ConditionRequired) as refusal:
        decided(SECOND, write_command(required, instructions=instructions()))
    assert (refusal.value.current_version, refusal.value.current_tag) == (2, "2-1")
    assert decided(
        None, write_command(replace(CREATE_ONLY, required=True), instructions=instructions())
    )


def test_a_field_that_breaks_a_limit_is_malformed() -> None:
    with pytest.raises(Malformed):
        decided(None, write_command(instructions=instructions(grade_scale="No Slug")))


def test_omitted_fields_without_a_live_value_are_an_error() -> None:
    with pytest.raises(ValueError, match="need a text and a grade scale"):
        decided(None, write_command(instructions=NewInstructions(grade_scale=SCALE)))


@pytest.mark.parametrize(
    "scope",
    [
        {"assignment_id": None},
        {"course_id": "ENG5"},
        {"assignment_id": None, "course_id": "ENG5", "student_prompt": DELETE},
    ],
)
def test_a_command_has_one_scope_and_a_course_has_instructions_only(scope: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="course"):
        write_command(**scope)


# properties, for any context

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


def decided_or_refused(
    context: AssignmentContext | None, command: WriteCommand
) -> WriteDecision | None:
    try:
        return decided(context, command)
    except Refusal:
        return None


@given(CONTEXTS, CHANGES)
def test_every_event_follows_the_component_before_it(
    context: AssignmentContext | None, command: WriteCommand
) -> None:
    decision = decided_or_refused(context, command)
    for event in decision.events if decision else ():
        newest = component_of(context, role_of(event))
        live_component = live(context, role_of(event))
        assert event.version == (min(newest.version + 1, MAX_LONG) if newest else 1)
        assert event.previous_event_id == (newest.event_id if newest else None)
        if live_component and hasattr(event, "created_at_ms"):
            assert event.created_at_ms == live_component.created_at_ms


@given(CONTEXTS, CHANGES)
def test_a_repeated_command_changes_nothing(
    context: AssignmentContext | None, command: WriteCommand
) -> None:
    decision = decided_or_refused(context, command)
    if decision is None:
        return
    folded = context_with(context, decision.events)
    again = decided_or_refused(folded, replace(command, needs_live=None))
    assert again is not None
    assert (again.events, again.outcome) == ((), "unchanged")


@given(CONTEXTS, CHANGES)
def test_named_roles_get_the_wanted_state_and_other_roles_stay(
    context: AssignmentContext | None, command: WriteCommand
) -> None:
    decision = decided_or_refused(context, command)
    if decision is None:
        return
    folded = context_with(context, decision.events)
    for role in ROLES:
        wanted = getattr(command, role)
        if wanted is DELETE or command.instructions is DELETE:
            assert not is_live(folded, role)
        elif wanted is None:
            assert component_of(folded, role) == component_of(context, role)
        else:
            assert is_live(folded, role)


@given(CONTEXTS, CHANGES, st.data())
def test_only_one_of_two_commands_with_the_same_etag_is_accepted(
    context: AssignmentContext | None, command: WriteCommand, data: st.DataObject
) -> None:
    command = replace(command, condition_on=data.draw(st.sampled_from([*ROLES])))
    before = live(context, command.condition_on)
    if before is None:
        return
    command = replace(command, condition=if_match(str(etag_of(before))))
    decision = decided_or_refused(context, command)
    if decision and command.condition_on in {role_of(event) for event in decision.events}:
        with pytest.raises(Refusal):
            decided(context_with(context, decision.events), replace(command, needs_live=None))


@given(CONTEXTS)
def test_an_erasure_erases_every_uploaded_role_once(
    context: AssignmentContext | None,
) -> None:
    command = erase_command("assignment:a1")
    decision = decided(context, command)
    folded = context_with(context, decision.events)
    for role in ROLES:
        before, now = component_of(context, role), component_of(folded, role)
        if before is None or now is None or before.erased:
            assert now == before
        else:
            version = min(before.version + 1, MAX_LONG)
            assert (now.is_deletion, now.erased, now.version) == (True, True, version)
            assert now.previous_event_id == before.event_id
    assert decided(folded, command).events == ()


def test_a_deleted_role_is_erased_by_another_deletion_and_a_course_has_instructions_only() -> None:
    deleted = context_after(instructions_uploaded(), instructions_deleted())
    (event,) = decided(deleted, erase_command("assignment:a1")).events
    assert (event.version, getattr(event, "erased", None)) == (3, True)
    course = context_after(instructions_uploaded(assignment_id=None, course_id="ENG5"))
    (event,) = decided(course, erase_command("course:ENG5")).events
    assert (getattr(event, "course_id", None), getattr(event, "erased", None)) == ("ENG5", True)
    assert erase_command("assignment:a:b").scope_key == "assignment:a:b"
