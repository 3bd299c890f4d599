"""The fold of a range gives what the plain fold gives, whatever the records, in slices of any size."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Malformed
from schemas.events import AssignmentContext, UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.context import fold
from tables.history.bulk_fold import ALL, BulkFold, Counts
from tables.history.scope_history import history_of
from tables.upload_record import UploadRecord, UploadTopics, read_upload
from tests.support.builders import (
    TOPIC_OF,
    damaged,
    prompt_deleted,
    prompt_uploaded,
    uploads_of,
    uploads_of_courses,
)

CODEC = Codec()
TOPICS = UploadTopics({topic.name: topic for topic in Topics().uploads}, 4)
WHOLE = frozenset(Partition(name, number) for name in TOPICS.by_name for number in range(4))
EVENTS = uploads_of(st.sampled_from(["a1", "a2", "a3"])) | uploads_of_courses(
    st.sampled_from(["ENG5", "SV2"])
)


@st.composite
def records(draw: st.DrawFn) -> list[UploadRecord]:
    """Records of every kind, each at the end of its partition as it is then: valid, damaged, misplaced, of no key."""
    ends: dict[Partition, int] = {}
    found = list[UploadRecord]()
    for event in draw(st.lists(EVENTS, max_size=14)):
        key, value = scope_key_of(event).encode(), CODEC.encode(event)
        partition = partition_for(key, 4)
        kind = draw(st.sampled_from(("valid", "valid", "valid", "damaged", "stray", "keyless")))
        if kind == "damaged":
            value = value[:5] + draw(damaged(value[5:]))  # another schema id would stop the fold
        elif kind == "stray":
            partition = (partition + 1) % 4
        at = Partition(TOPIC_OF[role_of(event)], partition)
        offset = ends.get(at, 0) + draw(st.integers(0, 2))  # markers and compacted ones leave holes
        ends[at] = offset + 1
        found.append(
            UploadRecord(
                Coordinates(*at, offset), None if kind == "keyless" else key, value, offset
            )
        )
    return found


def folded(
    given_records: Sequence[UploadRecord], most: int = 1000
) -> tuple[dict[str, AssignmentContext], Counts, dict[str, tuple[str, ...]]]:
    """Contexts, counts and broken roles, slice by slice."""
    contexts: dict[str, AssignmentContext] = {}
    broken: dict[str, tuple[str, ...]] = {}
    counts, slices = Counts(), [ALL]
    while slices:
        one = BulkFold(CODEC, TOPICS, whole=WHOLE, of=slices.pop(), most=most)
        for record in given_records:
            at = (record.at.topic, record.at.partition, record.at.offset)
            one.add(at, record.key, record.value, record.appended_at_ms)
        for found in one.contexts():
            assert found.context.scope_key not in contexts
            contexts[found.context.scope_key] = found.context
            if found.broken:
                broken[found.context.scope_key] = found.broken
        counts += one.counts()
        slices += one.rest
    return contexts, counts, broken


def plainly(
    given_records: Sequence[UploadRecord],
) -> tuple[dict[str, AssignmentContext], int]:
    rows: dict[str, AssignmentContext] = {}
    refused = 0
    for record in given_records:
        try:
            event = read_upload(record, CODEC, TOPICS)
        except Malformed:
            refused += 1
        else:
            fold(rows, event, record.at, record.appended_at_ms)
    return rows, refused


@given(records(), st.integers(1, 6))
def test_it_is_the_plain_fold_in_slices_of_any_size(some: list[UploadRecord], most: int) -> None:
    rows, refused = plainly(some)
    for bound in (1000, most):
        contexts, counts, _ = folded(some, bound)
        assert contexts == rows
        assert (counts.records, counts.damaged, counts.scopes) == (len(some), refused, len(rows))


@given(records())
def test_it_finds_the_roles_whose_history_is_broken(some: list[UploadRecord]) -> None:
    contexts, counts, broken = folded(some)
    for scope_key in contexts:
        of_key = [one for one in some if one.key == scope_key.encode()]
        gaps = {gap.role for gap in history_of(scope_key, of_key, {}, CODEC, TOPICS).gaps}
        assert set(broken.get(scope_key, ())) == gaps
    assert counts.broken == len(broken)


def chained(*numbers: int) -> list[UploadEvent]:
    return [
        prompt_uploaded(
            version=number,
            event_id=f"e{number}",
            previous_event_id=f"e{number - 1}" if number > 1 else None,
        )
        for number in numbers
    ]


def placed(events: Sequence[UploadEvent]) -> list[UploadRecord]:
    here = partition_for(b"assignment:a1", 4)
    return [
        UploadRecord(
            Coordinates(TOPIC_OF["student_prompt"], here, offset),
            b"assignment:a1",
            CODEC.encode(event),
            offset,
        )
        for offset, event in enumerate(events)
    ]


def test_a_broken_chain_is_told_and_a_range_that_begins_later_is_not_one() -> None:
    assert folded(placed(chained(1, 2, 3)))[2] == {}
    assert folded(placed(chained(1, 3)))[2] == {"assignment:a1": ("student_prompt",)}
    assert folded(placed(chained(2, 3)))[2] == {"assignment:a1": ("student_prompt",)}
    later = BulkFold(CODEC, TOPICS, whole=())
    for record in placed([*chained(4, 5), prompt_deleted(version=6, previous_event_id="e5")]):
        at = (record.at.topic, record.at.partition, record.at.offset)
        later.add(at, record.key, record.value, record.appended_at_ms)
    assert [one.broken for one in later.contexts()] == [()]


def test_a_damaged_upload_explains_the_version_that_is_missing() -> None:
    first, second, third = placed(chained(1, 2, 3))
    _, counts, broken = folded([first, replace(second, value=b"\1?"), third])
    assert (counts.damaged, counts.broken, broken) == (1, 0, {})


def test_a_misplaced_upload_is_damaged() -> None:
    first, second = placed(chained(1, 2))
    at = second.at
    stray = replace(second, at=Coordinates(at.topic, (at.partition + 1) % 4, at.offset))
    contexts, counts, _ = folded([first, stray])
    assert (contexts, counts.damaged) == (folded([first])[0], 1)


def test_only_the_scopes_that_are_wanted_are_folded() -> None:
    one = BulkFold(CODEC, TOPICS, whole=WHOLE, scope_keys={b"assignment:a2"})
    for record in placed(chained(1)):
        at = (record.at.topic, record.at.partition, record.at.offset)
        one.add(at, record.key, record.value, record.appended_at_ms)
    assert (list(one.contexts()), one.counts()) == ([], Counts())
