"""Changes of anchors, and what a command makes of them in a context."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import NotLive, TooManyAnchors, VersionConflict
from schemas.events import ADMINISTERED_ROLES, Anchor, AnchorsDeleted, AnchorsUploaded
from schemas.field_limits import MAX_ANCHORS
from tables.anchor_changes import (
    AddAnchor,
    AnchorsChange,
    PutAnchors,
    RemoveAnchors,
    anchors_after,
)
from tables.commands import (
    DELETE,
    WriteCommand,
    WriteDecision,
    WriteMetadata,
    decide,
    erase_command,
)
from tables.context import live_anchors
from tables.etags import Condition, assignment_etag_of
from tests.support.builders import (
    READY,
    anchor,
    anchors_deleted,
    anchors_uploaded,
    at,
    context_after,
)

SCALE, OTHER = "swedish_8_anchor", "eng5_np_legacy_9_step"
METADATA = WriteMetadata(actor="admin", correlation_id="c-9", occurred_at_ms=1_800_000_000_000)
A, B, IN_OTHER = anchor("a"), anchor("b"), anchor("a", "F", OTHER)
WITH_ANCHORS = context_after(*READY, anchors_uploaded(A, IN_OTHER, version=4))


def command(change: AnchorsChange, condition: Condition = Condition()) -> WriteCommand:  # noqa: B008
    return WriteCommand(
        assignment_id="a1",
        course_id=None,
        anchors=change,
        needs_live="anchors" if isinstance(change, RemoveAnchors) else "instructions",
        condition_on="anchors",
        condition=condition,
    )


def decided(context: object, wanted: WriteCommand) -> WriteDecision:
    numbers = count(1)
    return decide(context, wanted, METADATA, lambda: f"new-{next(numbers)}")  # type: ignore[arg-type]


def test_an_upload_always_has_the_whole_set() -> None:
    decision = decided(WITH_ANCHORS, command(AddAnchor(anchor=B)))
    (event,) = decision.events
    assert isinstance(event, AnchorsUploaded)
    assert set(event.anchors) == {A, B, IN_OTHER}
    assert (event.version, event.previous_event_id, decision.outcome) == (5, "k-1", "replaced")
    assert event.created_at_ms == anchors_uploaded().created_at_ms


def test_the_same_anchor_again_changes_nothing() -> None:
    decision = decided(
        context_after(*READY, anchors_uploaded(IN_OTHER, A)), command(AddAnchor(anchor=A))
    )
    assert (decision.events, decision.outcome) == ((), "unchanged")


def test_without_the_last_anchor_the_role_is_deleted() -> None:
    decision = decided(
        context_after(*READY, anchors_uploaded(A)),
        command(RemoveAnchors(grade_scale=SCALE, anchor_id="a")),
    )
    (event,) = decision.events
    assert isinstance(event, AnchorsDeleted)
    assert (event.version, event.erased, decision.outcome) == (2, False, "deleted")


@pytest.mark.parametrize(
    "change",
    [
        RemoveAnchors(grade_scale=SCALE, anchor_id="b"),
        RemoveAnchors(grade_scale="eng5_np_national_9_step"),
    ],
)
def test_anchors_that_are_not_there_cannot_be_removed(change: RemoveAnchors) -> None:
    with pytest.raises(NotLive) as refused:
        decided(WITH_ANCHORS, command(change))
    assert (refused.value.role, refused.value.was_deleted) == ("anchors", False)
    with pytest.raises(NotLive) as refused:
        decided(context_after(*READY, anchors_uploaded(A), anchors_deleted()), command(change))
    assert refused.value.was_deleted


def test_anchors_need_instructions() -> None:
    with pytest.raises(NotLive, match="instructions"):
        decided(context_after(anchors_uploaded(A)), command(AddAnchor(anchor=B)))


def test_there_are_never_more_anchors_than_an_upload_may_have() -> None:
    full = anchors_uploaded(*(anchor(f"x{n}") for n in range(MAX_ANCHORS)))
    with pytest.raises(TooManyAnchors, match="201 anchors"):
        decided(context_after(*READY, full), command(AddAnchor(anchor=A)))


def test_the_condition_is_on_the_anchors() -> None:
    with pytest.raises(VersionConflict) as refused:
        decided(WITH_ANCHORS, command(AddAnchor(anchor=B), Condition(if_match=("4-0",))))
    assert refused.value.current_tag == "4-3"
    assert decided(WITH_ANCHORS, command(AddAnchor(anchor=B), Condition(if_match=("4-3",)))).events


def test_the_instructions_take_the_anchors_with_them() -> None:
    delete = WriteCommand(
        assignment_id="a1", course_id=None, instructions=DELETE, condition_on="instructions"
    )
    assert decided(WITH_ANCHORS, delete).outcomes == dict.fromkeys(ADMINISTERED_ROLES, "deleted")
    assert "anchors" not in decided(context_after(*READY), delete).outcomes
    # the tag of an assignment is that of its three roles, with or without anchors
    with_tag = Condition(if_match=(str(assignment_etag_of(context_after(*READY))),))
    held = WriteCommand(
        assignment_id="a1",
        course_id=None,
        instructions=DELETE,
        condition_on="instructions",
        condition=with_tag,
    )
    assert decided(WITH_ANCHORS, held).outcomes["anchors"] == "deleted"


def test_an_erasure_erases_the_anchors_too_and_only_once() -> None:
    erase = erase_command("assignment:a1")
    events = decided(WITH_ANCHORS, erase).events
    assert [type(event).__name__ for event in events][-1] == "AnchorsDeleted"
    assert events[-1].erased  # type: ignore[union-attr]
    erased = context_after(anchors_uploaded(A), anchors_deleted(erased=True))
    assert decided(erased, erase).events == ()


def test_a_course_has_no_anchors() -> None:
    with pytest.raises(ValueError, match="a course has instructions only"):
        WriteCommand(
            assignment_id=None,
            course_id="ENG5",
            anchors=AddAnchor(anchor=A),
            condition_on="anchors",
        )


ANCHORS = st.builds(
    anchor,
    st.sampled_from("abc"),
    st.sampled_from(["A", "F"]),
    st.sampled_from([SCALE, OTHER]),
)
SETS = st.builds(
    PutAnchors,
    grade_scale=st.just(OTHER),
    anchors=st.lists(
        st.builds(anchor, st.sampled_from("abc"), st.just("F"), st.just(OTHER)),
        min_size=1,
        unique_by=lambda one: one.anchor_id,
    ).map(tuple),
)
REMOVALS = st.builds(
    RemoveAnchors,
    grade_scale=st.sampled_from([SCALE, OTHER]),
    anchor_id=st.none() | st.sampled_from("abc"),
)


@given(st.lists(st.builds(AddAnchor, anchor=ANCHORS) | SETS | REMOVALS, max_size=8))
def test_a_change_touches_its_scale_alone_and_keeps_ids_unique(
    changes: list[AnchorsChange],
) -> None:
    known: tuple[Anchor, ...] = ()
    for change in changes:
        changed = change.anchor if isinstance(change, AddAnchor) else change
        after = anchors_after(known, change)
        keys = [(one.grade_scale, one.anchor_id) for one in after]
        assert keys == sorted(set(keys))
        others = [one for one in known if one.grade_scale != changed.grade_scale]
        assert [one for one in after if one.grade_scale != changed.grade_scale] == others
        match change:
            case AddAnchor():
                assert change.anchor in after
            case PutAnchors():
                assert {*change.anchors} == {*after} - {*others}
            case RemoveAnchors():
                assert not any(map(change.names, after))
        known = after


def test_an_upload_of_anchors_is_folded_at_its_own_offset() -> None:
    uploaded = anchors_uploaded(A)
    context = context_after(uploaded)
    assert context.anchors is not None
    assert context.anchors.source == at(uploaded, 0)
    assert live_anchors(context) == (A,)
