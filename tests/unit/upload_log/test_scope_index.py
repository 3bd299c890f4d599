"""The index of live instructions: newest first, and always in step with what was folded."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from processors.upload_log.scope_index import ScopeIndex
from schemas.codec import Codec
from schemas.events import ROLES, AssignmentContext, UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.context import live
from tables.replica import ContextReplica
from tables.store import MemoryStore
from tables.upload_record import UploadRecord, UploadTopics
from tests.support.builders import (
    at,
    context_after,
    instructions_deleted,
    instructions_uploaded,
    prompt_uploaded,
)

CODEC = Codec()
TOPICS = UploadTopics({topic.name: topic for topic in Topics().uploads}, 1)
SCALES = ("swedish_8_anchor", "eng5_np_national_9_step")


def first_page(index: ScopeIndex, scale: str | None = None, *, size: int = 200) -> list[str]:
    keys, total = index.page(1, size, scale)
    assert len(keys) == min(size, total)
    return keys


def context_of(assignment_id: str, occurred_at_ms: int, **changes: Any) -> AssignmentContext:
    event = instructions_uploaded(
        assignment_id=assignment_id, occurred_at_ms=occurred_at_ms, **changes
    )
    return context_after(event)


def index_of(*contexts: AssignmentContext) -> tuple[ScopeIndex, dict[str, AssignmentContext]]:
    rows = {context.scope_key: context for context in contexts}
    index = ScopeIndex(rows.get)
    index.fill(rows.values())
    return index, rows


def test_scopes_are_sorted_newest_first_then_by_scope_key() -> None:
    index, _ = index_of(context_of("b", 5), context_of("c", 9), context_of("a", 5))
    assert first_page(index) == ["assignment:c", "assignment:a", "assignment:b"]


def test_pages_follow_each_other_and_one_past_the_end_is_empty() -> None:
    index, _ = index_of(*(context_of(f"a{number}", number) for number in range(5)))
    assert index.page(2, 2, None) == (["assignment:a2", "assignment:a1"], 5)
    assert index.page(3, 2, None) == (["assignment:a0"], 5)
    assert index.page(4, 2, None) == ([], 5)


def test_a_page_of_one_scale_counts_only_that_scale() -> None:
    index, _ = index_of(context_of("a", 1, grade_scale=SCALES[1]), context_of("b", 2))
    assert index.page(1, 9, SCALES[1]) == (["assignment:a"], 1)
    assert index.page(1, 9, "never_used") == ([], 0)


def test_a_scope_without_live_instructions_is_not_listed() -> None:
    gone = context_after(instructions_uploaded(), instructions_deleted())
    only_prompt = context_after(prompt_uploaded(assignment_id="a2"))
    assert first_page(index_of(gone, only_prompt)[0]) == []


def test_an_update_moves_a_scope_and_a_deletion_removes_it() -> None:
    index, rows = index_of(context_of("a", 1), context_of("b", 2))
    rows["assignment:a"] = context_of("a", 3)
    index.changed(["assignment:a"])
    assert first_page(index) == ["assignment:a", "assignment:b"]
    rows["assignment:a"] = context_after(instructions_uploaded(), instructions_deleted())
    index.changed(["assignment:a"])
    assert first_page(index) == first_page(index, SCALES[0]) == ["assignment:b"]


def instructions_of(assignment_id: str) -> st.SearchStrategy[UploadEvent]:
    uploaded = st.builds(
        instructions_uploaded,
        assignment_id=st.just(assignment_id),
        occurred_at_ms=st.integers(0, 3),
        grade_scale=st.sampled_from(SCALES),
    )
    return uploaded | st.just(instructions_deleted(assignment_id=assignment_id))


EVENTS = st.sampled_from(["a1", "a2", "a3"]).flatmap(
    lambda assignment_id: (
        instructions_of(assignment_id) | st.just(prompt_uploaded(assignment_id=assignment_id))
    )
)


def record(event: UploadEvent, offset: int) -> UploadRecord:
    key = scope_key_of(event).encode()
    assert partition_for(key, 1) == 0
    return UploadRecord(at(event, offset), key, CODEC.encode(event), 1)


@given(st.lists(st.lists(EVENTS, max_size=4), max_size=6), st.integers(0, 6))
def test_folds_and_a_restart_from_rows_give_the_same_list(
    folds: list[list[UploadEvent]], restart_after: int
) -> None:
    replica = ContextReplica(MemoryStore(), CODEC, TOPICS)
    index = ScopeIndex(replica.context)
    replica.on_changed = index.changed
    ends = dict.fromkeys(ROLES, 0)
    for number, fold in enumerate(folds):
        if number == restart_after:
            index = ScopeIndex(replica.context)
            index.fill(replica.contexts())
            replica.on_changed = index.changed
        records = []
        for event in fold:
            records.append(record(event, ends[role_of(event)]))
            ends[role_of(event)] += 1
        replica.fold(records, {})
    for scale in (None, *SCALES):
        expected = [
            (-component.occurred_at_ms, context.scope_key)
            for context in replica.contexts()
            if (component := live(context, "instructions"))
            and scale in (None, component.grade_scale)
        ]
        assert first_page(index, scale) == [key for _, key in sorted(expected)]


@given(
    st.sets(st.text("ab:", min_size=1, max_size=4), max_size=12),
    st.sampled_from(["", "a", "ab", "b", ":", "zz"]),
    st.integers(1, 3),
    st.integers(1, 5),
    st.sampled_from([None, *SCALES]),
)
def test_ids_with_a_prefix_are_paged_in_order_assignments_first(
    ids: set[str], prefix: str, page: int, size: int, scale: str | None
) -> None:
    contexts = [
        context_of(one, number % 3, grade_scale=SCALES[number % 2])
        for number, one in enumerate(sorted(ids))
    ]
    courses = [
        context_after(instructions_uploaded(assignment_id=None, course_id=one)) for one in ids
    ]
    index, rows = index_of(*contexts, *courses)
    wanted = [
        key
        for kind in ("assignment", "course")
        for key in sorted(rows)
        if key.startswith(f"{kind}:{prefix}") and is_of_scale(rows[key], scale)
    ]
    start = (page - 1) * size
    assert index.page(page, size, scale, prefix) == (wanted[start : start + size], len(wanted))


def is_of_scale(context: AssignmentContext, scale: str | None) -> bool:
    component = live(context, "instructions")
    return component is not None and scale in (None, component.grade_scale)
