"""The history of a scope from its records: versions, damaged records and gaps."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.events import AssignmentContext, UploadEvent, role_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.context import fold
from tables.history.scope_history import (
    DamagedUpload,
    ScopeHistory,
    VersionGap,
    history_of,
    scope_as_of,
)
from tables.history.version_chain import (
    EMPTY_CHAIN,
    REPEATED,
    SKIPPED,
    VersionChain,
    VersionLink,
    extended,
    step,
)
from tables.upload_record import UploadRecord, UploadTopics
from tests.support.builders import (
    TOPIC_OF,
    instructions_deleted,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    rubric_uploaded,
)

CODEC = Codec()
TOPICS = UploadTopics({topic.name: topic for topic in Topics().uploads}, 4)
A1 = "assignment:a1"
HERE = partition_for(A1.encode(), 4)
PROMPTS = TOPIC_OF["student_prompt"]


def record(event: UploadEvent | bytes, offset: int, topic: str = PROMPTS) -> UploadRecord:
    """A record with the key of assignment a1; pass bytes for a damaged one."""
    if not isinstance(event, bytes):
        topic, event = TOPIC_OF[role_of(event)], CODEC.encode(event)
    return UploadRecord(Coordinates(topic, HERE, offset), A1.encode(), event, 1_000 + offset)


def history(
    *records: UploadRecord, starts: Positions | None = None, **options: Any
) -> ScopeHistory:
    return history_of(A1, records, starts or {}, CODEC, TOPICS, **options)


def prompts(*numbers: int) -> list[UploadRecord]:
    """Prompts of a correct chain of which only these versions are left, each at the offset equal to its number."""
    return [record(prompt(number), number) for number in numbers]


def prompt(number: int, **changes: Any) -> UploadEvent:
    previous = f"e{number - 1}" if number > 1 else None
    defaults = {"version": number, "event_id": f"e{number}", "previous_event_id": previous}
    return prompt_uploaded(f"Text number {number}.", **{**defaults, **changes})


def prompts_until(offset: int) -> Positions:
    """Positions: prompts up to an offset, other topics at their start."""
    return {Partition(name, HERE): offset if name == PROMPTS else 0 for name in TOPICS.by_name}


def test_a_complete_history_has_every_version_and_no_gap() -> None:
    scope_history = history(
        *prompts(1, 2), record(prompt_deleted(version=3, previous_event_id="e2"), 3)
    )
    assert [
        (version.event.version, version.mark, version.changed) for version in scope_history.versions
    ] == [
        (1, None, ("uploaded",)),
        (2, None, ("storage_id", "sha256")),
        (3, None, ("deleted",)),
    ]
    assert scope_history.is_complete
    assert scope_history.damaged == ()


def test_a_gap_after_compaction_has_its_versions_and_coordinates() -> None:
    (gap,) = history(*prompts(1, 4)).gaps
    assert (gap.role, gap.after_version, gap.before_version) == ("student_prompt", 1, 4)
    assert (gap.after, gap.before) == (record(b"", 1).at, record(b"", 4).at)
    assert "predecessor e3" in gap.reason
    (gap,) = history(*prompts(3, 4)).gaps
    assert (gap.after_version, gap.before_version, gap.after) == (0, 3, None)


def test_the_state_is_hidden_inside_a_gap_and_known_outside() -> None:
    scope_history = history(*prompts(1, 4), record(instructions_uploaded(), 0))
    hidden = [bool(scope_as_of(scope_history, prompts_until(offset)).hidden) for offset in range(7)]
    assert hidden == [False, False, False, True, True, False, False]
    positions = {**prompts_until(3), Partition(TOPIC_OF["instructions"], HERE): 1}
    as_of = scope_as_of(scope_history, positions)
    assert set(as_of.hidden) == {"student_prompt"}
    assert as_of.context is not None
    assert as_of.context.instructions is not None


def test_a_role_without_records_has_a_gap_if_the_log_begins_later() -> None:
    later = {Partition(PROMPTS, HERE): 7}
    (gap,) = history(starts=later).gaps
    assert (gap.role, gap.after_version, gap.before_version) == ("student_prompt", 0, None)
    assert "begins at offset 7" in gap.reason
    assert history(record(prompt(1), 9), starts=later).is_complete  # version 1
    (gap,) = history(record(prompt(2), 9), starts=later).gaps
    assert (gap.after_version, gap.before_version) == (0, 2)
    other_partition = {Partition(PROMPTS, (HERE + 1) % 4): 7}
    assert history(starts=other_partition).is_complete


def test_the_state_before_the_first_record_of_a_recreated_topic_is_hidden() -> None:
    scope_history = history(*prompts(1, 2), recreated=[PROMPTS])
    hidden = [bool(scope_as_of(scope_history, prompts_until(offset)).hidden) for offset in range(4)]
    assert hidden == [True, True, False, False]
    assert scope_as_of(history(recreated=[PROMPTS]), prompts_until(0)).hidden.keys() == {
        "student_prompt"
    }


def test_wrong_version_numbers_are_marks_and_not_gaps() -> None:
    scope_history = history(
        record(prompt(1), 1),
        record(prompt(2), 2),
        record(
            prompt(2, event_id="again", previous_event_id="e1"), 3
        ),  # two producers read the same event
        record(prompt(9, previous_event_id="again"), 4),
        record(prompt(1, previous_event_id=None, event_id="anew"), 5),
    )
    assert [version.mark for version in scope_history.versions] == [
        None,
        None,
        REPEATED,
        SKIPPED,
        REPEATED,
    ]
    assert scope_history.is_complete


def test_without_predecessors_a_missing_version_number_is_a_gap() -> None:
    unlinked = [prompt(number, previous_event_id=None) for number in (1, 2, 5)]
    scope_history = history(*(record(event, offset) for offset, event in enumerate(unlinked)))
    assert [(gap.after_version, gap.before_version) for gap in scope_history.gaps] == [(2, 5)]


def test_a_damaged_upload_is_reported_and_may_be_the_missing_one() -> None:
    scope_history = history(record(prompt(1), 1), record(b"\1?", 2), record(prompt(3), 3))
    (damaged,) = scope_history.damaged
    reason = "2 bytes without Confluent framing"
    assert damaged == DamagedUpload("student_prompt", record(b"", 2).at, 1_002, 2, reason)
    assert scope_history.is_complete
    assert not history(record(prompt(1), 1), record(b"\1?", 2), record(prompt(4), 3)).is_complete


def test_a_record_in_a_wrong_partition_is_damaged_and_explains_no_gap() -> None:
    elsewhere = [number for number in range(4) if number != HERE]
    strays = [
        replace(record(prompt(1), 2), at=Coordinates(PROMPTS, partition, 2))
        for partition in elsewhere
    ]
    scope_history = history(*strays, record(prompt(2), 1), record(prompt(4), 3))
    assert [damaged.at for damaged in scope_history.damaged] == [stray.at for stray in strays]
    assert [gap.before_version for gap in scope_history.gaps] == [2, 4]


def test_each_role_has_its_own_chain() -> None:
    scope_history = history(
        record(instructions_uploaded(), 0),
        record(instructions_deleted(), 1),
        record(rubric_uploaded(version=2, previous_event_id="r-1"), 0),
    )
    assert [gap.role for gap in scope_history.gaps] == ["judge_rubric"]


@given(st.integers(1, 8), st.data())
def test_after_any_compaction_a_state_is_correct_or_hidden(count: int, data: st.DataObject) -> None:
    log = prompts(*range(1, count + 1))
    early = st.lists(st.sampled_from(log), unique=True)
    retained = [record for record in log if record in [*data.draw(early), log[-1]]]
    scope_history = history(*retained)
    for offset in range(count + 3):
        as_of = scope_as_of(scope_history, prompts_until(offset))
        if not as_of.hidden:
            assert as_of.context == plain_fold(log[: max(offset - 1, 0)])
    assert scope_history.is_complete == (len(retained) == len(log))
    assert not scope_as_of(
        scope_history, prompts_until(count + 1)
    ).hidden  # the newest state is always known


def plain_fold(records: list[UploadRecord]) -> AssignmentContext | None:
    rows: dict[str, AssignmentContext] = {}
    for record in records:
        fold(rows, CODEC.decode(record.value), record.at, record.appended_at_ms)  # type: ignore[arg-type]
    return rows.get(A1)


@pytest.mark.parametrize(
    ("chain", "link", "damaged", "is_gap", "mark"),
    [
        (EMPTY_CHAIN, VersionLink(1, "a", None), 0, False, None),
        (EMPTY_CHAIN, VersionLink(1, "a", "lost"), 0, True, None),
        (EMPTY_CHAIN, VersionLink(3, "a", None), 0, True, None),
        (VersionChain(1, ("a",)), VersionLink(2, "b", "a"), 0, False, None),
        (VersionChain(1, ("a",)), VersionLink(2, "c", "b"), 0, True, None),
        (VersionChain(2, ("b", "a")), VersionLink(2, "c", "lost"), 0, True, REPEATED),
        (VersionChain(1, ("a",)), VersionLink(3, "c", "b"), 1, False, None),
        (VersionChain(1, ("a",)), VersionLink(4, "d", "c"), 1, True, None),
    ],
)
def test_steps(
    chain: VersionChain, link: VersionLink, damaged: int, is_gap: bool, mark: str | None
) -> None:
    assert step(chain, link, damaged) == (is_gap, mark)


def test_a_chain_keeps_only_the_newest_events() -> None:
    chain = EMPTY_CHAIN
    for number in range(1, 9):
        chain = extended(chain, VersionLink(number, f"e{number}", None))
    assert chain == VersionChain(8, ("e8", "e7", "e6", "e5"))


def test_a_gap_has_the_coordinates_around_it() -> None:
    gap = history(*prompts(2)).gaps[0]
    assert gap == VersionGap("student_prompt", 0, 2, None, record(b"", 2).at, gap.reason)
