"""The index of upload records, in memory and on disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.coordinates import Coordinates, Partition
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.history.upload_index import UploadIndex, temporary_index
from tables.store import MemoryStore, RocksStore, Store
from tables.upload_record import UploadRecord, UploadTopics

TOPICS = UploadTopics({topic.name: topic for topic in Topics().uploads}, 4)
INSTRUCTIONS, PROMPTS, RUBRICS = TOPICS.by_name
A1 = "assignment:a1"
HERE = partition_for(A1.encode(), 4)


@pytest.fixture(params=["memory", "rocks"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = (
        MemoryStore()
        if request.param == "memory"
        else RocksStore(tmp_path, what="the index", cache_mb=8)
    )
    yield store
    store.close()


@pytest.fixture
def index(rows: Store) -> UploadIndex:
    return UploadIndex(rows, TOPICS)


def record(
    offset: int,
    key: bytes | None = A1.encode(),
    *,
    topic: str = PROMPTS,
    partition: int = HERE,
    value: bytes | None = b"value",
) -> UploadRecord:
    return UploadRecord(Coordinates(topic, partition, offset), key, value, 1_000 + offset)


def test_an_empty_index_has_no_records_and_no_positions(index: UploadIndex) -> None:
    assert index.positions() == {}
    assert list(index.records_of(PROMPTS, A1)) == list(index.records_of(RUBRICS, A1)) == []


def test_records_are_returned_unchanged_and_in_log_order(index: UploadIndex) -> None:
    records = [record(300), record(2), record(255, value=None), record(256, value=b"")]
    index.add(records, {})
    assert list(index.records_of(PROMPTS, A1)) == sorted(records, key=lambda stored: stored.at)


def test_a_record_in_a_wrong_partition_is_found_by_its_key(index: UploadIndex) -> None:
    misplaced = record(9, partition=(HERE + 1) % 4)
    index.add([record(1), misplaced], {})
    assert {stored.at for stored in index.records_of(PROMPTS, A1)} == {record(1).at, misplaced.at}


def test_similar_keys_and_other_topics_are_separate(index: UploadIndex) -> None:
    others = [
        record(1, b"assignment:a"),
        record(2, b"assignment:a1\0"),
        record(3, b"assignment:a11"),
        record(4, b"\xff\xfe"),
        record(5, None),
        record(6, topic=RUBRICS),
    ]
    index.add([*others, record(7)], {})
    assert list(index.records_of(PROMPTS, A1)) == [record(7)]
    assert list(index.records_of(RUBRICS, A1)) == [record(6, topic=RUBRICS)]


def test_a_record_added_twice_is_stored_once(index: UploadIndex) -> None:
    index.add([record(1), record(2)], {})
    index.add([record(2), record(3)], {})
    assert list(index.records_of(PROMPTS, A1)) == [record(1), record(2), record(3)]


def test_positions_are_stored_with_the_records(index: UploadIndex) -> None:
    index.add([record(1)], {Partition(PROMPTS, 0): 2, Partition(RUBRICS, 3): 0})
    index.add([], {Partition(PROMPTS, 0): 2**40})
    assert index.positions() == {Partition(PROMPTS, 0): 2**40, Partition(RUBRICS, 3): 0}
    assert list(index.records_of(PROMPTS, A1)) == [record(1)]


def test_a_temporary_index_leaves_nothing_behind(tmp_path: Path) -> None:
    with temporary_index(TOPICS, within=tmp_path) as index:
        index.add([record(1)], {})
        assert list(index.records_of(PROMPTS, A1)) == [record(1)]
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
