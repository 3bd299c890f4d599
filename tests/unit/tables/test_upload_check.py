"""The check of many uploads accepts only what `read_upload` accepts, and both engines accept the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord
from schemas.events import UploadEvent, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.upload_batch import UploadBatch
from tables.upload_check import UploadCheck
from tables.upload_record import UploadRecord, UploadTopics, read_upload
from tests.support.builders import UPLOADS, damaged, instructions_uploaded, prompt_uploaded, uploads
from tests.support.engines import ENGINES

CODEC, PARTITIONS = Codec(), 7
TOPICS = UploadTopics({topic.name: topic for topic in Topics().uploads}, PARTITIONS)
CHECKS = {engine.name: UploadCheck(CODEC, TOPICS, engine) for engine in ENGINES}


def topic_of(event: UploadEvent) -> str:
    return next(name for name, topic in TOPICS.by_name.items() if type(event) in topic.carries)


def record_of(event: UploadEvent, key: bytes | None = None) -> UploadRecord:
    key = scope_key_of(event).encode() if key is None else key
    at = Coordinates(topic_of(event), partition_for(key, PARTITIONS), 5)
    return UploadRecord(at, key, CODEC.encode(event), 1)


def accepted(name: str, *records: UploadRecord) -> list[bool]:
    return list(CHECKS[name].accepts(UploadBatch.of(records)))


@st.composite
def records(draw: st.DrawFn) -> UploadRecord:
    """An upload as it should be, or with another value, key, partition or topic."""
    right = record_of(draw(uploads()))
    value = draw(st.just(right.value) | damaged(right.value or b"") | st.just(b"") | st.none())
    other_key = record_of(draw(uploads())).key
    key = draw(st.sampled_from([right.key, right.key, other_key, b"", None]))
    partition = draw(st.just(right.at.partition) | st.integers(0, PARTITIONS - 1))
    topic = draw(st.just(right.at.topic) | st.sampled_from(list(TOPICS.by_name)))
    return UploadRecord(Coordinates(topic, partition, 5), key, value, 1)


@given(st.lists(records(), max_size=5))
def test_both_engines_accept_the_same_records_and_each_can_be_read(
    some_records: list[UploadRecord],
) -> None:
    compiled = accepted("numba", *some_records)
    assert compiled == accepted("plain", *some_records)
    for record, is_accepted in zip(some_records, compiled, strict=True):
        if is_accepted:
            read_upload(record, CODEC, TOPICS)


@pytest.mark.parametrize("name", CHECKS)
def test_uploads_and_deletions_of_every_kind_are_accepted(name: str) -> None:
    assert accepted(name, *map(record_of, UPLOADS)) == [True] * len(UPLOADS)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(
    "record",
    [
        record_of(instructions_uploaded(assignment_id="a1"), b"assignment:a2"),
        record_of(instructions_uploaded(assignment_id="a1"), b"course:a1"),
        record_of(instructions_uploaded(assignment_id="a1"), b"assignment:a12"),
        record_of(instructions_uploaded(assignment_id="a12"), b"assignment:a1"),
        record_of(prompt_uploaded(assignment_id="a1"), b""),
    ],
)
def test_an_upload_under_another_key_is_not_accepted(name: str, record: UploadRecord) -> None:
    with pytest.raises(BadRecord):
        read_upload(record, CODEC, TOPICS)
    assert accepted(name, record) == [False]


@pytest.mark.parametrize("name", CHECKS)
def test_an_upload_with_both_ids_or_none_is_not_accepted(name: str) -> None:
    both = instructions_uploaded(assignment_id="a1", course_id="a1")
    neither = instructions_uploaded(assignment_id=None)
    for event, key in ((both, b"assignment:a1"), (both, b"course:a1"), (neither, b"course:None")):
        assert accepted(name, record_of(event, key)) == [False]
