"""What a scope's records tell of its history, and what they do not tell."""

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
    BEFORE,
    REPEATED,
    SKIPPED,
    VersionChain,
    VersionLink,
    joined,
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
    """A record of assignment a1's key; bytes are a damaged one."""
    if not isinstance(event, bytes):
        topic, event = TOPIC_OF[role_of(event)], CODEC.encode(event)
    return UploadRecord(Coordinates(topic, HERE, offset), A1.encode(), event, 1_000 + offset)


def told(*records: UploadRecord, starts: Positions | None = None, **more: Any) -> ScopeHistory:
    return history_of(A1, records, starts or {}, CODEC, TOPICS, **more)


def prompts(*numbers: int) -> list[UploadRecord]:
    """Well-numbered prompts of which only these versions are left, each at its number as offset."""
    return [record(prompt(number), number) for number in numbers]


def prompt(number: int, **changes: Any) -> UploadEvent:
    previous = f"e{number - 1}" if number > 1 else None
    own = {"version": number, "event_id": f"e{number}", "previous_event_id": previous}
    return prompt_uploaded(f"Text number {number}.", **{**own, **changes})


def at(offset: int) -> Positions:
    """Prompts up to an offset, everything else from its start."""
    return {Partition(name, HERE): offset if name == PROMPTS else 0 for name in TOPICS.by_name}


def test_a_whole_history_has_every_version_and_no_gap() -> None:
    found = told(*prompts(1, 2), record(prompt_deleted(version=3, previous_event_id="e2"), 3))
    assert [(one.event.version, one.mark, one.changed) for one in found.versions] == [
        (1, None, ("uploaded",)),
        (2, None, ("storage_id", "sha256")),
        (3, None, ("deleted",)),
    ]
    assert found.is_complete
    assert found.damaged == ()


def test_what_compaction_took_is_told_by_versions_and_coordinates() -> None:
    (gap,) = told(*prompts(1, 4)).gaps
    assert (gap.role, gap.after_version, gap.before_version) == ("student_prompt", 1, 4)
    assert (gap.after, gap.before) == (record(b"", 1).at, record(b"", 4).at)
    assert "predecessor e3" in gap.reason
    (gap,) = told(*prompts(3, 4)).gaps
    assert (gap.after_version, gap.before_version, gap.after) == (0, 3, None)


def test_a_moment_in_a_gap_has_no_answer_and_one_beside_it_has() -> None:
    found = told(*prompts(1, 4), record(instructions_uploaded(), 0))
    hidden = [bool(scope_as_of(found, at(offset)).hidden) for offset in range(7)]
    assert hidden == [False, False, False, True, True, False, False]
    everything = {**at(3), Partition(TOPIC_OF["instructions"], HERE): 1}
    standing = scope_as_of(found, everything)
    assert set(standing.hidden) == {"student_prompt"}
    assert standing.context is not None
    assert standing.context.instructions is not None


def test_a_log_that_begins_later_cannot_tell_of_a_role_that_it_has_nothing_of() -> None:
    later = {Partition(PROMPTS, HERE): 7}
    (gap,) = told(starts=later).gaps
    assert (gap.role, gap.after_version, gap.before_version) == ("student_prompt", 0, None)
    assert "begins at offset 7" in gap.reason
    assert told(record(prompt(1), 9), starts=later).is_complete  # the first of all
    (gap,) = told(record(prompt(2), 9), starts=later).gaps
    assert (gap.after_version, gap.before_version) == (0, 2)
    strange = {Partition(PROMPTS, (HERE + 1) % 4): 7}
    assert told(starts=strange).is_complete


def test_before_the_first_record_of_a_topic_made_anew_nothing_is_known() -> None:
    found = told(*prompts(1, 2), made_anew=[PROMPTS])
    hidden = [bool(scope_as_of(found, at(offset)).hidden) for offset in range(4)]
    assert hidden == [True, True, False, False]
    assert scope_as_of(told(made_anew=[PROMPTS]), at(0)).hidden.keys() == {"student_prompt"}


def test_numbers_that_repeat_fall_or_jump_are_marks_and_no_gaps() -> None:
    found = told(
        record(prompt(1), 1),
        record(prompt(2), 2),
        record(prompt(2, event_id="again", previous_event_id="e1"), 3),  # two read the same one
        record(prompt(9, previous_event_id="again"), 4),
        record(prompt(1, previous_event_id=None, event_id="anew"), 5),
    )
    assert [one.mark for one in found.versions] == [None, None, REPEATED, SKIPPED, REPEATED]
    assert found.is_complete


def test_a_producer_that_chains_nothing_is_held_to_its_numbers() -> None:
    alone = [prompt(number, previous_event_id=None) for number in (1, 2, 5)]
    found = told(*(record(event, offset) for offset, event in enumerate(alone)))
    assert [(gap.after_version, gap.before_version) for gap in found.gaps] == [(2, 5)]


def test_a_damaged_upload_is_told_and_may_be_the_one_that_is_missing() -> None:
    found = told(record(prompt(1), 1), record(b"\1?", 2), record(prompt(3), 3))
    (damaged,) = found.damaged
    reason = "2 bytes without Confluent framing"
    assert damaged == DamagedUpload("student_prompt", record(b"", 2).at, 1_002, 2, reason)
    assert found.is_complete
    assert not told(record(prompt(1), 1), record(b"\1?", 2), record(prompt(4), 3)).is_complete


def test_a_stray_record_is_damaged_and_explains_nothing() -> None:
    elsewhere = [number for number in range(4) if number != HERE]
    strays = [replace(record(prompt(1), 2), at=Coordinates(PROMPTS, one, 2)) for one in elsewhere]
    found = told(*strays, record(prompt(2), 1), record(prompt(4), 3))
    assert [one.at for one in found.damaged] == [stray.at for stray in strays]
    assert [gap.before_version for gap in found.gaps] == [2, 4]


def test_roles_are_told_apart() -> None:
    found = told(
        record(instructions_uploaded(), 0),
        record(instructions_deleted(), 1),
        record(rubric_uploaded(version=2, previous_event_id="r-1"), 0),
    )
    assert [gap.role for gap in found.gaps] == ["judge_rubric"]


@given(st.integers(1, 8), st.data())
def test_after_any_compaction_a_state_is_the_true_one_or_none(
    count: int, data: st.DataObject
) -> None:
    whole = prompts(*range(1, count + 1))
    early = st.lists(st.sampled_from(whole), unique=True)
    kept = [one for one in whole if one in [*data.draw(early), whole[-1]]]
    found = told(*kept)
    for offset in range(count + 3):
        standing = scope_as_of(found, at(offset))
        if not standing.hidden:
            assert standing.context == plain(whole[: max(offset - 1, 0)])
    assert found.is_complete == (len(kept) == len(whole))
    assert not scope_as_of(found, at(count + 1)).hidden  # the newest is always known


def plain(records: list[UploadRecord]) -> AssignmentContext | None:
    rows: dict[str, AssignmentContext] = {}
    for one in records:
        fold(rows, CODEC.decode(one.value), one.at, one.appended_at_ms)  # type: ignore[arg-type]
    return rows.get(A1)


@pytest.mark.parametrize(
    ("chain", "link", "damaged", "is_gap", "mark"),
    [
        (BEFORE, VersionLink(1, "a", None), 0, False, None),
        (BEFORE, VersionLink(1, "a", "lost"), 0, True, None),
        (BEFORE, VersionLink(3, "a", None), 0, True, None),
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


def test_a_chain_remembers_the_newest_events_alone() -> None:
    chain = BEFORE
    for number in range(1, 9):
        chain = joined(chain, VersionLink(number, f"e{number}", None))
    assert chain == VersionChain(8, ("e8", "e7", "e6", "e5"))


def test_a_gap_names_its_places() -> None:
    gap = told(*prompts(2)).gaps[0]
    assert gap == VersionGap("student_prompt", 0, 2, None, record(b"", 2).at, gap.reason)
