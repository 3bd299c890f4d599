"""The fold: uploads are applied to the context of their scope, in any order and repeated or not."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.coordinates import Coordinates
from schemas.events import AssignmentContext, Component, UploadEvent, role_of, scope_key_of
from tables.context import (
    FOLD_VERSION,
    apply,
    component_of,
    context_from,
    fold,
    is_live,
    live,
    merge,
)
from tests.support.builders import (
    READY,
    at,
    context_after,
    instructions_deleted,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    rubric_uploaded,
    uploads_of,
    uploads_of_courses,
)

LogRecord = tuple[UploadEvent, Coordinates, int]
Rows = dict[str, AssignmentContext]


def log_of(events: Iterable[UploadEvent]) -> list[LogRecord]:
    """Events with coordinates and append times, in consecutive offsets of their topics."""
    ends: dict[str, int] = {}
    records = []
    for event in events:
        offset = ends.get(role_of(event), 0)
        ends[role_of(event)] = offset + 1
        records.append((event, at(event, offset), 1_700_000_000_000 + offset))
    return records


EVENTS = uploads_of(st.sampled_from(["a1", "a2"])) | uploads_of_courses(st.just("ENG5"))
HISTORIES = st.lists(EVENTS, max_size=12).map(log_of)
HISTORIES_OF_ONE_SCOPE = st.lists(uploads_of(st.just("a1")), min_size=1, max_size=8).map(log_of)


def folded(history: Iterable[LogRecord]) -> Rows:
    rows: Rows = {}
    for event, coordinates, appended_at_ms in history:
        fold(rows, event, coordinates, appended_at_ms)
    return rows


def merge_all(contexts: Iterable[AssignmentContext]) -> AssignmentContext:
    first, *others = contexts
    for other in others:
        first = merge(first, other)
    return first


def last_uploads(history: Iterable[LogRecord]) -> dict[tuple[str, str], Coordinates]:
    """The expected result of the fold: the coordinates of the last upload of each scope and role."""
    return {(scope_key_of(event), role_of(event)): coordinates for event, coordinates, _ in history}


def sources_in(rows: Rows) -> dict[tuple[str, str], Coordinates]:
    return {
        (scope_key, role): component.source
        for scope_key, row in rows.items()
        for role in ("instructions", "student_prompt", "judge_rubric")
        if (component := component_of(row, role)) is not None
    }


@given(HISTORIES)
def test_the_fold_keeps_the_last_upload_of_each_scope_and_role(history: list[LogRecord]) -> None:
    assert sources_in(folded(history)) == last_uploads(history)


@given(st.data(), HISTORIES)
def test_order_and_repetition_of_uploads_do_not_matter(
    data: st.DataObject, history: list[LogRecord]
) -> None:
    assert folded(data.draw(st.permutations(history * 2))) == folded(history)


@given(st.data(), HISTORIES_OF_ONE_SCOPE)
def test_rows_of_any_slices_of_the_log_merge_to_the_row_of_the_whole_log(
    data: st.DataObject, history: list[LogRecord]
) -> None:
    slices = data.draw(st.lists(st.lists(st.sampled_from(history), min_size=1), max_size=4))
    rows = [folded(slice_)["assignment:a1"] for slice_ in [history, *slices]]
    assert merge_all(data.draw(st.permutations(rows))) == folded(history)["assignment:a1"]


@given(st.data(), HISTORIES_OF_ONE_SCOPE)
def test_a_row_can_fold_uploads_again_and_new_ones(
    data: st.DataObject, history: list[LogRecord]
) -> None:
    earlier = data.draw(st.lists(st.sampled_from(history)))
    rows = folded(earlier)
    for event, coordinates, appended_at_ms in data.draw(st.permutations(history)):
        fold(rows, event, coordinates, appended_at_ms)
    assert rows == folded(history)


@given(st.data(), HISTORIES_OF_ONE_SCOPE)
def test_merge_is_commutative_associative_and_idempotent(
    data: st.DataObject, history: list[LogRecord]
) -> None:
    some = st.lists(st.sampled_from(history), min_size=1).map(
        lambda slice_: folded(slice_)["assignment:a1"]
    )
    one, two, three = data.draw(some), data.draw(some), data.draw(some)
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(one, one) == one


def test_an_older_upload_that_arrives_later_changes_nothing() -> None:
    newer = context_from(prompt_uploaded("New."), at(prompt_uploaded(), 7), 70)
    assert apply(newer, prompt_uploaded("Old."), at(prompt_uploaded(), 6), 60) == newer


def test_an_older_upload_is_not_written_to_the_table() -> None:
    class ReadOnly(dict[str, AssignmentContext]):
        def __setitem__(self, key: str, value: AssignmentContext) -> None:
            raise AssertionError("written")

    rows = ReadOnly({"assignment:a1": context_after(*READY)})
    fold(rows, instructions_uploaded(), at(instructions_uploaded(), 0), 1_700_000_000_000)


def test_the_highest_offset_wins_not_the_highest_version() -> None:
    context = context_after(prompt_uploaded("One.", version=9), prompt_uploaded("Two.", version=1))
    assert component_of(context, "student_prompt").version == 1  # type: ignore[union-attr]


def test_a_row_has_all_fields_of_an_upload_and_its_coordinates() -> None:
    upload = instructions_uploaded(previous_event_id="i-0")
    assert context_from(upload, at(upload, 5, partition=2), 99) == AssignmentContext(
        scope_key="assignment:a1",
        fold_version=FOLD_VERSION,
        instructions=Component(
            source=Coordinates("assessment.instructions.v1", 2, 5),
            appended_at_ms=99,
            is_deletion=False,
            version=1,
            event_id="i-1",
            previous_event_id="i-0",
            actor=upload.actor,
            correlation_id="c-1",
            occurred_at_ms=upload.occurred_at_ms,
            created_at_ms=upload.created_at_ms,
            storage_id=upload.storage_id,
            sha256=upload.sha256,
            media_type=upload.media_type,
            size_bytes=upload.size_bytes,
            grade_scale="swedish_8_anchor",
            context_origin="research_experiment",
        ),
    )


def test_a_deletion_is_a_component_that_is_not_live() -> None:
    context = context_after(instructions_uploaded(), instructions_deleted(erased=True))
    deletion = component_of(context, "instructions")
    assert deletion is not None
    assert (deletion.is_deletion, deletion.erased, deletion.storage_id) == (True, True, None)
    assert live(context, "instructions") is None


def test_a_role_uploaded_after_its_deletion_is_live_again() -> None:
    context = context_after(prompt_uploaded(), prompt_deleted(), prompt_uploaded(version=3))
    assert is_live(context, "student_prompt")


def test_a_deletion_deletes_only_its_own_role() -> None:
    context = context_after(*READY, prompt_deleted())
    roles = ("instructions", "student_prompt", "judge_rubric")
    assert [is_live(context, role) for role in roles] == [True, False, True]


def test_no_role_is_live_without_a_context() -> None:
    assert component_of(None, "instructions") is None
    assert not is_live(None, "instructions")


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="no role is called"):
        component_of(context_after(*READY), "scope_key")


def test_components_of_different_partitions_do_not_merge() -> None:
    one = context_from(rubric_uploaded(), at(rubric_uploaded(), 5, partition=0), 1)
    with pytest.raises(ValueError, match="different partitions"):
        merge(one, context_from(rubric_uploaded(), at(rubric_uploaded(), 5, partition=1), 1))


def test_components_of_different_topics_do_not_merge() -> None:
    one = context_from(rubric_uploaded(), at(rubric_uploaded(), 5), 1)
    with pytest.raises(ValueError, match="different partitions"):
        merge(one, context_from(rubric_uploaded(), Coordinates("elsewhere", 0, 5), 1))


def test_different_scopes_do_not_merge() -> None:
    with pytest.raises(ValueError, match="assignment:a1 with assignment:a2"):
        merge(context_after(*READY), context_after(rubric_uploaded(assignment_id="a2")))


def test_for_equal_offsets_the_row_of_the_newer_fold_version_wins() -> None:
    old = context_after(prompt_uploaded())
    assert old.student_prompt is not None
    seen_anew = replace(old.student_prompt, media_type="text/x-seen-anew")
    new = replace(old, fold_version=FOLD_VERSION + 1, student_prompt=seen_anew)
    assert merge(old, new) == merge(new, old) == new
