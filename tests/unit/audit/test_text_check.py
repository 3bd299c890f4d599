"""Which missing texts were erased on purpose."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from processors.kafka.records import LogRecord
from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.events import UploadEvent, role_of, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topics
from tables.upload_record import UploadTopics
from tests.support.builders import TOPIC_OF, instructions_deleted, instructions_uploaded
from tools.audit.verify.text_check import erasures_in

CODEC = Codec()
TOPICS = UploadTopics({topic.name: topic for topic in Topics().uploads}, partitions=4)
TEXT, OTHER = "a" * 64, "b" * 64


def uploaded(assignment_id: str, text: str = TEXT) -> UploadEvent:
    return instructions_uploaded(assignment_id=assignment_id, storage_id=text, sha256=text)


def erased(assignment_id: str) -> UploadEvent:
    return replace(instructions_deleted(assignment_id=assignment_id), erased=True)


def record_of(offset: int, event: UploadEvent) -> LogRecord:
    key = scope_key_of(event).encode()
    at = Coordinates(TOPIC_OF[role_of(event)], partition_for(key, 4), offset)
    return LogRecord(at, key, CODEC.encode(event), (), 0)


@pytest.mark.parametrize(
    ("events", "by"),
    [
        ([uploaded("a1"), erased("a1")], 1),
        ([uploaded("a1"), uploaded("a1", OTHER), erased("a1")], 2),
        ([uploaded("a1"), erased("a1"), uploaded("a1", OTHER)], 1),
        ([uploaded("a1"), uploaded("a2"), erased("a1"), erased("a2")], 3),
        ([uploaded("a1"), instructions_deleted(assignment_id="a1")], None),
        ([uploaded("a1"), erased("a1"), uploaded("a1")], None),
        ([uploaded("a2"), uploaded("a1"), erased("a1")], None),
        ([uploaded("a1"), erased("a1"), uploaded("a2")], None),
        ([uploaded("a1"), erased("a2")], None),
    ],
    ids=[
        "erased",
        "an earlier version",
        "another text afterwards",
        "by the last one that names it",
        "deleted but not erased",
        "uploaded again",
        "another scope names it",
        "another scope names it later",
        "another scope is erased",
    ],
)
def test_a_text_is_erased_if_no_upload_names_it_any_more(
    events: Sequence[UploadEvent], by: int | None
) -> None:
    records = [record_of(offset, event) for offset, event in enumerate(events)]
    expected = {} if by is None else {TEXT: records[by].at}
    assert erasures_in(records, {TEXT}, CODEC, TOPICS) == expected
