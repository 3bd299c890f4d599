"""The replica: rows and positions agree, also after restarts, on both stores."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import FRAME, Codec, canonical
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Discrepancy, Malformed, ReplicaDamaged, UnknownSchema, Unreachable
from schemas.events import AssignmentContext, UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from schemas.released_schemas import released
from schemas.topics import Topics
from tables.context import FOLD_VERSION, fold
from tables.replica import CACHED_CONTEXTS, ContextReplica, read_contexts
from tables.store import MemoryStore, RocksStore, Store
from tables.upload_record import UploadRecord, UploadTopics, read_upload
from tests.support.builders import (
    OF_LATER_RELEASE,
    READY,
    TOPIC_OF,
    UPLOADS,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    rubric_uploaded,
)

CODEC = Codec()
TOPICS = UploadTopics({topic.name: topic for topic in Topics().uploads}, partitions=4)
IDS = {topic.name: f"id-of-{topic.name}" for topic in Topics().uploads}
PROMPTS = Topics().student_prompts.name
P0, P1 = Partition(PROMPTS, 0), Partition(PROMPTS, 1)


@pytest.fixture(params=["memory", "rocks"])
def reopened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """A function that closes the store and opens it again, as a restarted process does."""
    memory = MemoryStore()
    opened: list[Store] = []

    def again() -> Store:
        if request.param == "memory":
            return memory
        for store in opened:
            store.close()
        opened[:] = [RocksStore(tmp_path / "replica", what="the replica", cache_mb=8)]
        return opened[0]

    yield again
    for store in opened:
        store.close()


def replica_on(store: Store) -> ContextReplica:
    replica = ContextReplica(store, CODEC, TOPICS)
    replica.open(IDS)
    return replica


def test_rows_have_the_fixed_schema_ids_whatever_ids_a_registry_gives(
    reopened: Callable[[], Store],
) -> None:
    registry_codec = Codec(
        ids={(schema.name, schema.version): n for n, schema in enumerate(released(), 1)}
    )
    replica = ContextReplica(reopened(), registry_codec, TOPICS)
    replica.open(IDS)
    record = record_of(prompt_uploaded(), 0)
    replica.fold([record], positions_after(record))
    folded = replica.context("assignment:a1")
    assert replica_on(reopened()).context("assignment:a1") == folded is not None


def in_memory() -> ContextReplica:
    return replica_on(MemoryStore())


def record_of(event: UploadEvent, offset: int) -> UploadRecord:
    """The record of an upload, with the key and partition that its producer chooses."""
    key = scope_key_of(event).encode()
    at = Coordinates(TOPIC_OF[role_of(event)], partition_for(key, 4), offset)
    return UploadRecord(at, key, CODEC.encode(event), 1_700_000_000_000 + offset)


def positions_after(record: UploadRecord) -> dict[Partition, int]:
    return {Partition(record.at.topic, record.at.partition): record.at.offset + 1}


def fold_upload(replica: ContextReplica, event: UploadEvent, offset: int) -> None:
    record = record_of(event, offset)
    assert replica.fold([record], positions_after(record)) == []


def version_of(replica: ContextReplica, assignment_id: str = "a1") -> int | None:
    context = replica.context(f"assignment:{assignment_id}")
    return context.student_prompt.version if context and context.student_prompt else None


def test_a_folded_upload_is_stored_with_its_position(reopened: Callable[[], Store]) -> None:
    replica = replica_on(reopened())
    fold_upload(replica, prompt_uploaded(version=7), 40)
    record = record_of(prompt_uploaded(), 40)
    context = replica.context("assignment:a1")
    assert context is not None
    assert context.student_prompt is not None
    assert (context.student_prompt.source, context.student_prompt.version) == (record.at, 7)
    assert replica.positions() == positions_after(record)


def test_a_restart_continues_from_the_positions_of_its_rows(reopened: Callable[[], Store]) -> None:
    fold_upload(replica_on(reopened()), prompt_uploaded(version=7), 40)
    replica = ContextReplica(reopened(), CODEC, TOPICS)
    assert replica.open(IDS) == positions_after(record_of(prompt_uploaded(), 40))
    assert version_of(replica) == 7
    fold_upload(replica, prompt_uploaded(version=8), 41)
    assert version_of(replica) == 8


def test_many_folds_give_the_same_rows_as_one(reopened: Callable[[], Store]) -> None:
    replica, at_once = replica_on(reopened()), in_memory()
    records = [record_of(event, offset) for offset, event in enumerate(UPLOADS)]
    for record in records:
        replica.fold([record], positions_after(record))
    at_once.fold(records, {})
    for scope_key in ("assignment:a1", "course:ENG5"):
        assert replica.context(scope_key) == at_once.context(scope_key) is not None


def test_an_older_or_repeated_upload_changes_nothing() -> None:
    replica = in_memory()
    fold_upload(replica, prompt_uploaded(version=2), 5)
    fold_upload(replica, prompt_uploaded(version=1), 4)
    fold_upload(replica, prompt_uploaded(version=2), 5)
    assert version_of(replica) == 2


def test_an_unchanged_context_is_the_same_object() -> None:
    replica = in_memory()
    fold_upload(replica, prompt_uploaded(), 1)
    first = replica.context("assignment:a1")
    fold_upload(replica, prompt_uploaded(assignment_id="a2"), 2)
    assert replica.context("assignment:a1") is first
    fold_upload(replica, prompt_uploaded(version=2), 3)
    assert replica.context("assignment:a1") is not first


def test_the_first_upload_of_a_scope_replaces_the_cached_absence() -> None:
    replica = in_memory()
    assert replica.context("assignment:a1") is None
    fold_upload(replica, prompt_uploaded(), 1)
    assert version_of(replica) == 1


def test_rows_of_another_fold_version_are_dropped(reopened: Callable[[], Store]) -> None:
    store = reopened()
    fold_upload(replica_on(store), prompt_uploaded(), 40)
    store.write({b"nrows_version": f"{FOLD_VERSION + 1}.1".encode()})
    replica = ContextReplica(reopened(), CODEC, TOPICS)
    assert replica.open(IDS) == {}
    assert replica.context("assignment:a1") is None


def test_a_recreated_topic_is_a_discrepancy(reopened: Callable[[], Store]) -> None:
    fold_upload(replica_on(reopened()), prompt_uploaded(), 40)
    store = reopened()
    with pytest.raises(
        Discrepancy, match=f"{PROMPTS} was recreated .its id was id-of-.*, now it is new"
    ):
        ContextReplica(store, CODEC, TOPICS).open(IDS | {PROMPTS: "new"})
    assert ContextReplica(store, CODEC, TOPICS).open(IDS) != {}  # the refusal has changed nothing


def later_upload(offset: int) -> UploadRecord:
    """An upload of a later release, under the key of `prompt_uploaded`."""
    good = record_of(prompt_uploaded(), offset)
    return UploadRecord(good.at, good.key, OF_LATER_RELEASE, 1)


def setting_aside(offset: int, at: int, event: UploadEvent | None) -> UploadRecord:
    """The record at an offset that sets aside the one at another."""
    record = record_of(event or prompt_uploaded(), at)
    return replace(record, value=record.value if event else None, sets_aside=offset)


def test_an_upload_of_a_later_release_stops_its_partition_alone(
    reopened: Callable[[], Store],
) -> None:
    replica = replica_on(reopened())
    later = later_upload(2)
    here = Partition(later.at.topic, later.at.partition)
    elsewhere = record_of(rubric_uploaded(), 9)
    records = [
        record_of(prompt_uploaded(version=1), 1),
        later,
        record_of(prompt_uploaded(version=3), 3),
        elsewhere,
    ]
    assert replica.fold(records, {here: 4, **positions_after(elsewhere)}) == []
    assert version_of(replica) == 1
    assert replica.positions() == {here: 2, **positions_after(elsewhere)}
    assert {one: stop.record for one, stop in replica.stopped().items()} == {here: later}
    assert "set-aside assessment.student-prompts.v1/" in replica.stopped()[here].reason
    replica.fold([record_of(prompt_uploaded(version=4), 4)], {here: 5})
    replica.advance({here: 6})
    assert (version_of(replica), replica.positions()[here]) == (1, 2)
    again = ContextReplica(reopened(), CODEC, TOPICS)
    assert (again.open(IDS)[here], version_of(again)) == (2, 1)


def test_waiting_does_not_wait_for_a_stopped_partition() -> None:
    replica = in_memory()
    later = later_upload(2)
    replica.fold([later], positions_after(later))
    here = Partition(later.at.topic, later.at.partition)
    assert replica.wait_past({here: 3}, 60) == {here: 3}


@pytest.mark.parametrize("event", [prompt_uploaded(version=5), None], ids=["upload", "empty"])
def test_an_upload_that_is_set_aside_is_skipped(event: UploadEvent | None) -> None:
    replica = in_memory()
    later, between = later_upload(2), record_of(prompt_uploaded(version=4), 3)
    last = setting_aside(2, 4, event)
    here = Partition(later.at.topic, later.at.partition)
    replica.fold([later, between, last], {here: 5})
    assert replica.resume() == []
    for wrong in (
        setting_aside(3, 4, event),
        replace(last, key=b"assignment:a2"),
        replace(last, at=replace(last.at, partition=(here.partition + 1) % 4)),
    ):
        replica.set_aside(wrong)
        assert replica.resume() == []
    replica.set_aside(last)
    assert (replica.resume(), replica.stopped(), replica.positions()[here]) == ([here], {}, 2)
    refused = replica.fold([later, between, last], {here: 5})
    assert [(record, str(fault)) for record, fault in refused] == [
        (
            later,
            f"schema id {FRAME.unpack_from(OF_LATER_RELEASE)[1]} is not of this release; it was set aside",
        )
    ]
    assert (version_of(replica), replica.positions()[here]) == (5 if event else 4, 5)


def test_a_partition_goes_on_when_its_upload_can_be_read() -> None:
    form: list[str] = []
    codec = Codec(form_of=lambda _schema_id: form[0] if form else unreachable())
    replica = ContextReplica(MemoryStore(), codec, TOPICS)
    replica.open(IDS)
    good = record_of(prompt_uploaded(version=7), 2)
    foreign = replace(good, value=FRAME.pack(0, 7) + (good.value or b"")[FRAME.size :])
    here = Partition(good.at.topic, good.at.partition)
    replica.fold([foreign], {here: 3})
    assert (replica.resume(), replica.positions()) == ([], {here: 2})
    (schema,) = (
        one for one in released() if (one.name, one.version) == ("StudentPromptUploaded", 2)
    )
    form.append(canonical(orjson.dumps(schema.schema)))
    assert replica.resume() == [here]
    assert replica.fold([foreign], {here: 3}) == []
    assert (version_of(replica), replica.positions()) == (7, {here: 3})


def unreachable() -> str:
    raise Unreachable("the registry")


def invalid_records() -> dict[str, UploadRecord]:
    good = record_of(prompt_uploaded(), 3)
    at, key, value = good.at, good.key, good.value
    elsewhere = Coordinates(at.topic, (at.partition + 1) % 4, at.offset)
    rubric_topic = Coordinates(Topics().judge_rubrics.name, at.partition, at.offset)
    return {
        "junk": UploadRecord(at, key, b"junk", 1),
        "a tombstone": UploadRecord(at, key, None, 1),
        "a limit broken": UploadRecord(at, key, CODEC.encode(prompt_uploaded(version=0)), 1),
        "no key": UploadRecord(at, None, value, 1),
        "another key": UploadRecord(at, b"assignment:a2", value, 1),
        "a bare id as key": UploadRecord(at, b"a1", value, 1),
        "another partition": UploadRecord(elsewhere, key, value, 1),
        "another topic": UploadRecord(rubric_topic, key, value, 1),
        "an id of another registry": UploadRecord(at, key, FRAME.pack(0, 7) + b"\0", 1),
        "no upload": UploadRecord(at, key, CODEC.encode(requested()), 1),
    }


@pytest.mark.parametrize("record", invalid_records().values(), ids=invalid_records().keys())
def test_an_invalid_record_is_malformed(record: UploadRecord) -> None:
    with pytest.raises(Malformed):
        read_upload(record, CODEC, TOPICS)


def test_invalid_records_are_returned_and_the_others_are_folded() -> None:
    replica = in_memory()
    invalid = invalid_records()
    first, last = record_of(prompt_uploaded(version=1), 1), record_of(prompt_uploaded(version=9), 9)
    refused = replica.fold([first, *invalid.values(), last], positions_after(last))
    assert [record for record, _ in refused] == list(invalid.values())
    assert (version_of(replica), replica.positions()) == (9, positions_after(last))


def test_the_cache_is_bounded_and_stays_correct() -> None:
    replica = in_memory()
    for event in READY:
        fold_upload(replica, event, 1)
    before = replica.context("assignment:a1")
    for n in range(CACHED_CONTEXTS + 1):
        assert replica.context(f"assignment:unknown-{n}") is None
    reread = replica.context("assignment:a1")
    assert reread == before
    assert reread is not before  # it was dropped from the cache and read again
    fold_upload(replica, prompt_deleted(), 2)
    context = replica.context("assignment:a1")
    assert context is not None
    assert context.student_prompt is not None
    assert context.student_prompt.is_deletion


def test_a_fold_may_change_more_rows_than_the_cache_holds() -> None:
    replica = in_memory()
    count = CACHED_CONTEXTS + 10
    records = [record_of(rubric_uploaded(assignment_id=f"a{n}"), n) for n in range(count)]
    replica.fold(records, {})
    known = [replica.context(f"assignment:a{n}") for n in (0, 1, count // 2, count - 1)]
    assert [context.scope_key for context in known if context] == [
        f"assignment:a{n}" for n in (0, 1, count // 2, count - 1)
    ]


def test_positions_advance_without_rows() -> None:
    replica = in_memory()
    replica.advance({P0: 5})
    replica.advance({P1: 2})
    assert replica.positions() == {P0: 5, P1: 2}


def test_waiting_returns_the_watermarks_not_reached() -> None:
    replica = in_memory()
    replica.advance({P0: 5})
    assert replica.wait_past({P0: 5, P1: 0}, 0) == {}
    assert replica.wait_past({P0: 6, P1: 1}, 0.01) == {P0: 6, P1: 1}


def test_waiting_ends_when_the_watermarks_are_reached() -> None:
    replica = in_memory()
    unreached: list[object] = []
    waiting = threading.Thread(
        target=lambda: unreached.append(replica.wait_past({P0: 5, P1: 3}, 10))
    )
    waiting.start()
    replica.advance({P0: 5})
    replica.advance({P1: 4})
    waiting.join(10)
    assert unreached == [{}]


def test_waiting_ends_when_a_partition_stops_at_its_position() -> None:
    replica = in_memory()
    upload = record_of(prompt_uploaded(), 0)
    partition = Partition(upload.at.topic, upload.at.partition)
    replica.advance({partition: 0})
    unreached: list[object] = []
    waiting = threading.Thread(
        target=lambda: unreached.append(replica.wait_past({partition: 1}, 60))
    )
    waiting.start()
    replica.fold([replace(upload, value=OF_LATER_RELEASE)], {partition: 1})
    waiting.join(10)
    assert unreached == [{partition: 1}]


def test_nothing_is_folded_while_the_replica_is_frozen() -> None:
    replica = in_memory()
    fold_upload(replica, prompt_uploaded(version=1), 1)
    started, folded = threading.Event(), threading.Event()

    def fold_later() -> None:
        started.set()
        fold_upload(replica, prompt_uploaded(version=2), 2)
        folded.set()

    folding = threading.Thread(target=fold_later, daemon=True)
    with replica.frozen() as positions:
        folding.start()
        assert started.wait(10)
        assert not folded.wait(0.1)
        assert positions == replica.positions() == positions_after(record_of(prompt_uploaded(), 1))
        assert version_of(replica) == 1
    folding.join(10)
    assert (version_of(replica), replica.positions()) == (
        2,
        positions_after(record_of(prompt_uploaded(), 2)),
    )


def test_returned_positions_do_not_change_afterwards() -> None:
    replica = in_memory()
    with replica.frozen() as positions:
        replica.advance({P0: 9})
    assert positions == {}


def test_a_concurrent_reader_never_sees_an_older_row_than_before() -> None:
    replica = in_memory()
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            for n in range(50):  # other scopes fill the cache
                replica.context(f"assignment:other-{n}")
            seen.append(version_of(replica) or 0)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    for version in range(1, 300):
        fold_upload(replica, prompt_uploaded(version=version), version)
    done.set()
    reading.join(10)
    assert seen == sorted(seen)
    assert version_of(replica) == 299


class PausedStore(MemoryStore):
    """A store whose first read returns an old row only after the fold has ended, or after half a second."""

    def __init__(self) -> None:
        super().__init__()
        self.pause = threading.Event()
        self.was_read, self.folded = threading.Event(), threading.Event()

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        rows = super().read(keys)
        if self.pause.is_set():
            self.pause.clear()
            self.was_read.set()
            self.folded.wait(0.5)
        return rows


def test_a_row_read_before_a_fold_is_not_cached_after_it() -> None:
    store = PausedStore()
    fold_upload(replica_on(store), prompt_uploaded(version=1), 1)
    replica = replica_on(store)  # with an empty cache
    store.pause.set()
    reading = threading.Thread(target=version_of, args=(replica,), daemon=True)
    reading.start()
    assert store.was_read.wait(10)
    fold_upload(replica, prompt_uploaded(version=2), 2)
    store.folded.set()
    reading.join(10)
    assert version_of(replica) == 2


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (b"", Malformed),
        (b"junk", Malformed),
        (bytes(20) + b"junk", Malformed),
        (bytes(20) + CODEC.encode(requested()), Malformed),
        (bytes(20) + OF_LATER_RELEASE, UnknownSchema),
    ],
    ids=["empty", "short", "no frame", "no upload", "of a later release"],
)
def test_a_row_that_cannot_be_read_ends_the_process_and_the_next_start_drops_all(
    row: bytes, kind: type[Exception]
) -> None:
    store = MemoryStore()
    replica = replica_on(store)
    fold_upload(replica, prompt_uploaded(), 1)
    store.write({b"rassignment:a2\0\1": row})
    ((_, context), (key, fault)) = read_contexts(store, TOPICS)
    assert (key, type(fault)) == (b"assignment:a2", kind)
    assert context == replica.context("assignment:a1")
    readings: list[Callable[[], object]] = [
        lambda: replica.context("assignment:a2"),
        lambda: replica.contexts_of([b"assignment:a2"]),
        lambda: list(replica.contexts()),
    ]
    for read in readings:
        with pytest.raises(ReplicaDamaged, match="start again"):
            read()
        restarted = replica_on(store)
        assert restarted.positions() == {}
        assert restarted.context("assignment:a2") is None
        store.write({b"rassignment:a2\0\1": row})


@given(st.data())
def test_the_contexts_are_those_of_the_plain_fold(data: st.DataObject) -> None:
    events = data.draw(st.lists(st.sampled_from(UPLOADS), max_size=30))
    records = [record_of(event, offset) for offset, event in enumerate(events)]
    rows: dict[str, AssignmentContext] = {}
    for event, record in zip(events, records, strict=True):
        fold(rows, event, record.at, record.appended_at_ms)
    replica = in_memory()
    while records:
        count = data.draw(st.integers(1, len(records)))
        replica.fold(records[:count], positions_after(records[count - 1]))
        records = records[count:]
    assert {context.scope_key: context for context in replica.contexts()} == rows
    assert {scope_key: replica.context(scope_key) for scope_key in rows} == rows


def test_contexts_are_in_the_order_of_scope_keys_and_may_be_selected() -> None:
    store = MemoryStore()
    replica = replica_on(store)
    for offset, name in enumerate(("a2", "a", "a1", "a1!")):
        fold_upload(replica, prompt_uploaded(assignment_id=name), offset)
        fold_upload(replica, rubric_uploaded(assignment_id=name), offset)
    keys = [context.scope_key for context in replica.contexts()]
    assert keys == sorted(f"assignment:{name}" for name in ("a", "a1", "a1!", "a2"))
    wanted = read_contexts(store, TOPICS, lambda key: key.endswith(b"1"))
    assert [key for key, _ in wanted] == [b"assignment:a1"]


def test_scope_keys_are_read_page_by_page(reopened: Callable[[], Store]) -> None:
    replica, ids = replica_on(reopened()), ["a", "a-1", "a1", "b", "ä"]
    for offset, an_id in enumerate(ids):
        fold_upload(replica, prompt_uploaded(assignment_id=an_id), offset)
        fold_upload(replica, rubric_uploaded(assignment_id=an_id), offset)
    pages, after = list[list[str]](), ""
    while page := replica.scope_keys(after, 2):
        pages.append(page)
        after = page[-1]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [key for page in pages for key in page] == [f"assignment:{an_id}" for an_id in ids]


def test_a_course_has_a_row_of_its_own() -> None:
    replica = in_memory()
    fold_upload(replica, instructions_uploaded(assignment_id=None, course_id="SV2"), 1)
    context = replica.context("course:SV2")
    assert isinstance(context, AssignmentContext)
    assert context.scope_key == "course:SV2"
