"""The list of live instructions: newest first, and never out of step with what was folded."""

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


def listed(listing: ScopeIndex, scale: str | None = None, *, size: int = 200) -> list[str]:
    keys, total = listing.page(1, size, scale)
    assert len(keys) == min(size, total)
    return keys


def of(assignment_id: str, occurred_at_ms: int, **changes: Any) -> AssignmentContext:
    event = instructions_uploaded(
        assignment_id=assignment_id, occurred_at_ms=occurred_at_ms, **changes
    )
    return context_after(event)


def filled(*contexts: AssignmentContext) -> tuple[ScopeIndex, dict[str, AssignmentContext]]:
    rows = {context.scope_key: context for context in contexts}
    listing = ScopeIndex(rows.get)
    listing.fill(rows.values())
    return listing, rows


def test_the_newest_comes_first_then_by_scope_key() -> None:
    listing, _ = filled(of("b", 5), of("c", 9), of("a", 5))
    assert listed(listing) == ["assignment:c", "assignment:a", "assignment:b"]


def test_a_page_is_cut_out_and_one_past_the_end_is_empty() -> None:
    listing, _ = filled(*(of(f"a{number}", number) for number in range(5)))
    assert listing.page(2, 2, None) == (["assignment:a2", "assignment:a1"], 5)
    assert listing.page(3, 2, None) == (["assignment:a0"], 5)
    assert listing.page(4, 2, None) == ([], 5)


def test_a_list_of_one_scale_counts_that_scale_only() -> None:
    listing, _ = filled(of("a", 1, grade_scale=SCALES[1]), of("b", 2))
    assert listing.page(1, 9, SCALES[1]) == (["assignment:a"], 1)
    assert listing.page(1, 9, "never_used") == ([], 0)


def test_what_has_no_live_instructions_is_not_listed() -> None:
    gone = context_after(instructions_uploaded(), instructions_deleted())
    only_prompt = context_after(prompt_uploaded(assignment_id="a2"))
    assert listed(filled(gone, only_prompt)[0]) == []


def test_an_update_moves_a_scope_and_a_deletion_takes_it_out() -> None:
    listing, rows = filled(of("a", 1), of("b", 2))
    rows["assignment:a"] = of("a", 3)
    listing.changed(["assignment:a"])
    assert listed(listing) == ["assignment:a", "assignment:b"]
    rows["assignment:a"] = context_after(instructions_uploaded(), instructions_deleted())
    listing.changed(["assignment:a"])
    assert listed(listing) == listed(listing, SCALES[0]) == ["assignment:b"]


def instructions_of(assignment_id: str) -> st.SearchStrategy[UploadEvent]:
    uploaded = st.builds(
        instructions_uploaded,
        assignment_id=st.just(assignment_id),
        occurred_at_ms=st.integers(0, 3),
        grade_scale=st.sampled_from(SCALES),
    )
    return uploaded | st.just(instructions_deleted(assignment_id=assignment_id))


EVENTS = st.sampled_from(["a1", "a2", "a3"]).flatmap(
    lambda one: instructions_of(one) | st.just(prompt_uploaded(assignment_id=one))
)


def record(event: UploadEvent, offset: int) -> UploadRecord:
    key = scope_key_of(event).encode()
    assert partition_for(key, 1) == 0
    return UploadRecord(at(event, offset), key, CODEC.encode(event), 1)


@given(st.lists(st.lists(EVENTS, max_size=4), max_size=6), st.integers(0, 6))
def test_folds_and_a_start_from_rows_lead_to_the_same_list(
    folds: list[list[UploadEvent]], restart_after: int
) -> None:
    replica = ContextReplica(MemoryStore(), CODEC, TOPICS)
    listing = ScopeIndex(replica.context)
    replica.changed = listing.changed
    ends = dict.fromkeys(ROLES, 0)
    for number, fold in enumerate(folds):
        if number == restart_after:
            listing = ScopeIndex(replica.context)
            listing.fill(replica.contexts())
            replica.changed = listing.changed
        records = []
        for event in fold:
            records.append(record(event, ends[role_of(event)]))
            ends[role_of(event)] += 1
        replica.fold(records, {})
    for scale in (None, *SCALES):
        living = [
            (-one.occurred_at_ms, context.scope_key)
            for context in replica.contexts()
            if (one := live(context, "instructions")) and scale in (None, one.grade_scale)
        ]
        assert listed(listing, scale) == [key for _, key in sorted(living)]
