"""The bulk fold gives the same result as the plain fold, for any records, in slices of any size."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Malformed
from schemas.events import AssignmentContext, UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.context import fold
from tables.history.bulk_fold import ALL_KEYS, BulkFold, Counts
from tables.history.scope_history import history_of
from tables.scan.plain import PLAIN_ENGINE
from tables.scan.scanner import Engine
from tables.upload_batch import UploadBatch
from tables.upload_record import UploadRecord, UploadTopics, read_upload
from tests.support.builders import (
    TOPIC_OF,
    damaged,
    prompt_deleted,
    prompt_uploaded,
    uploads_of,
    uploads_of_courses,
)
from tests.support.engines import ENGINES, NAME_OF

CODEC = Codec()
TOPICS = UploadTopics({topic.name: topic for topic in Topics().uploads}, 4)
BATCH = 3  # records; a batch ends anywhere in a chain
EVERY_PARTITION = frozenset(
    Partition(name, number) for name in TOPICS.by_name for number in range(4)
)
EVENTS = uploads_of(st.sampled_from(["a1", "a2", "a3"])) | uploads_of_courses(
    st.sampled_from(["ENG5", "SV2"])
)


@st.composite
def records(draw: st.DrawFn) -> list[UploadRecord]:
    """Records of every kind, appended to their partitions: valid, damaged, in a wrong partition, without a key."""
    ends: dict[Partition, int] = {}
    generated = list[UploadRecord]()
    for event in draw(st.lists(EVENTS, max_size=14)):
        key, value = scope_key_of(event).encode(), CODEC.encode(event)
        partition = partition_for(key, 4)
        kind = draw(st.sampled_from(("valid", "valid", "valid", "damaged", "stray", "keyless")))
        if kind == "damaged":
            # not the schema id: an unknown one would stop the fold
            value = value[:5] + draw(damaged(value[5:]))
        elif kind == "stray":
            partition = (partition + 1) % 4
        tp = Partition(TOPIC_OF[role_of(event)], partition)
        # transaction markers and compaction leave holes
        offset = ends.get(tp, 0) + draw(st.integers(0, 2))
        ends[tp] = offset + 1
        generated.append(
            UploadRecord(
                Coordinates(*tp, offset), None if kind == "keyless" else key, value, offset
            )
        )
    return generated


def folded(
    given_records: Sequence[UploadRecord], max_scopes: int = 1000, engine: Engine = PLAIN_ENGINE
) -> tuple[dict[str, AssignmentContext], Counts, dict[str, tuple[str, ...]]]:
    """Contexts, counts and broken roles, slice by slice."""
    contexts: dict[str, AssignmentContext] = {}
    broken: dict[str, tuple[str, ...]] = {}
    counts, slices = Counts(), [ALL_KEYS]
    while slices:
        bulk_fold = BulkFold(
            CODEC,
            TOPICS,
            read_from_start=EVERY_PARTITION,
            key_slice=slices.pop(),
            max_scopes=max_scopes,
            engine=engine,
        )
        for number in range(0, len(given_records), BATCH):
            bulk_fold.add(UploadBatch.of(given_records[number : number + BATCH]))
        for scope in bulk_fold.contexts():
            assert scope.context.scope_key not in contexts
            contexts[scope.context.scope_key] = scope.context
            if scope.broken:
                broken[scope.context.scope_key] = scope.broken
        counts += bulk_fold.counts()
        slices += bulk_fold.remaining
    return contexts, counts, broken


def plain_fold(
    given_records: Sequence[UploadRecord],
) -> tuple[dict[str, AssignmentContext], int]:
    rows: dict[str, AssignmentContext] = {}
    invalid = 0
    for record in given_records:
        try:
            event = read_upload(record, CODEC, TOPICS)
        except Malformed:
            invalid += 1
        else:
            fold(rows, event, record.at, record.appended_at_ms)
    return rows, invalid


@pytest.mark.parametrize("engine", ENGINES, ids=NAME_OF)
@given(log_records=records(), max_scopes=st.integers(1, 6))
def test_it_equals_the_plain_fold_in_slices_of_any_size(
    engine: Engine, log_records: list[UploadRecord], max_scopes: int
) -> None:
    rows, invalid = plain_fold(log_records)
    for limit in (1000, max_scopes):
        contexts, counts, _ = folded(log_records, limit, engine)
        assert contexts == rows
        assert (counts.records, counts.damaged, counts.scopes) == (
            len(log_records),
            invalid,
            len(rows),
        )


@pytest.mark.parametrize("engine", ENGINES, ids=NAME_OF)
@given(log_records=records())
def test_roles_with_a_broken_history_are_reported(
    engine: Engine, log_records: list[UploadRecord]
) -> None:
    contexts, counts, broken = folded(log_records, engine=engine)
    for scope_key in contexts:
        with_key = [record for record in log_records if record.key == scope_key.encode()]
        gaps = {gap.role for gap in history_of(scope_key, with_key, {}, CODEC, TOPICS).gaps}
        assert set(broken.get(scope_key, ())) == gaps
    assert counts.broken == len(broken)


def chained_prompts(*numbers: int) -> list[UploadEvent]:
    return [
        prompt_uploaded(
            version=number,
            event_id=f"e{number}",
            previous_event_id=f"e{number - 1}" if number > 1 else None,
        )
        for number in numbers
    ]


def records_of(events: Sequence[UploadEvent]) -> list[UploadRecord]:
    partition = partition_for(b"assignment:a1", 4)
    return [
        UploadRecord(
            Coordinates(TOPIC_OF["student_prompt"], partition, offset),
            b"assignment:a1",
            CODEC.encode(event),
            offset,
        )
        for offset, event in enumerate(events)
    ]


def test_a_broken_chain_is_reported_but_not_a_range_that_begins_later() -> None:
    assert folded(records_of(chained_prompts(1, 2, 3)))[2] == {}
    assert folded(records_of(chained_prompts(1, 3)))[2] == {"assignment:a1": ("student_prompt",)}
    assert folded(records_of(chained_prompts(2, 3)))[2] == {"assignment:a1": ("student_prompt",)}
    later = BulkFold(CODEC, TOPICS, read_from_start=())
    chained = [*chained_prompts(4, 5), prompt_deleted(version=6, previous_event_id="e5")]
    later.add(UploadBatch.of(records_of(chained)))
    assert [scope.broken for scope in later.contexts()] == [()]


@pytest.mark.parametrize("engine", ENGINES, ids=NAME_OF)
def test_a_predecessor_in_the_log_explains_versions_that_are_left_out(engine: Engine) -> None:
    first = prompt_uploaded(event_id="e1")
    last = prompt_uploaded(version=2**20, event_id="e9", previous_event_id="e1")
    assert folded(records_of([first, last]), engine=engine)[2] == {}
    stranger = replace(last, previous_event_id="e8")
    broken = folded(records_of([first, stranger]), engine=engine)[2]
    assert broken == {"assignment:a1": ("student_prompt",)}


def test_a_damaged_upload_explains_a_missing_version() -> None:
    first, second, third = records_of(chained_prompts(1, 2, 3))
    _, counts, broken = folded([first, replace(second, value=b"\1?"), third])
    assert (counts.damaged, counts.broken, broken) == (1, 0, {})


def test_an_upload_in_a_wrong_partition_is_damaged() -> None:
    first, second = records_of(chained_prompts(1, 2))
    at = second.at
    stray = replace(second, at=Coordinates(at.topic, (at.partition + 1) % 4, at.offset))
    contexts, counts, _ = folded([first, stray])
    assert (contexts, counts.damaged) == (folded([first])[0], 1)


def test_only_requested_scopes_are_folded() -> None:
    bulk_fold = BulkFold(
        CODEC, TOPICS, read_from_start=EVERY_PARTITION, scope_keys={b"assignment:a2"}
    )
    bulk_fold.add(UploadBatch.of(records_of(chained_prompts(1))))
    assert (list(bulk_fold.contexts()), bulk_fold.counts()) == ([], Counts())
