"""A scope's timeline: its records in log order, where they belong, and what stood on either side of an offset."""

from schemas.coordinates import Coordinates
from schemas.partitioner import partition_for
from tables.upload_record import UploadRecord
from tests.support.installation_in_memory import UPLOADS
from tools.audit.check.upload_timelines import TimelineRecord, UploadTimelines

INSTRUCTIONS, PROMPTS, RUBRICS = UPLOADS.by_name
A1 = b"assignment:a1"
HERE = partition_for(A1, UPLOADS.partitions)


def record(
    offset: int, key: bytes | None = A1, *, topic: str = PROMPTS, partition: int = HERE
) -> UploadRecord:
    return UploadRecord(Coordinates(topic, partition, offset), key, b"value", 1_000 + offset)


def timelines(*records: UploadRecord) -> UploadTimelines:
    own = UploadTimelines(UPLOADS)
    own.add_records(records)
    return own


def stood(offset: int) -> TimelineRecord:
    return TimelineRecord(offset, 1_000 + offset, b"value")


def test_the_records_beside_an_offset_are_those_of_its_key_and_topic() -> None:
    own = timelines(record(3), record(5, b"assignment:a2"), record(6, None), record(256))
    assert own.beside(PROMPTS, A1, 3) == (None, stood(3))
    assert own.beside(PROMPTS, A1, 4) == (stood(3), stood(256))
    assert own.beside(PROMPTS, A1, 256) == (stood(3), stood(256))
    assert own.beside(PROMPTS, A1, 257) == (stood(256), None)
    assert own.beside(RUBRICS, A1, 4) == own.beside(PROMPTS, b"assignment:a3", 4) == (None, None)


def test_a_record_in_a_wrong_partition_is_beside_no_offset() -> None:
    elsewhere = (HERE + 1) % UPLOADS.partitions
    own = timelines(record(1), record(4, partition=elsewhere), record(9))
    assert own.beside(PROMPTS, A1, 5) == (stood(1), stood(9))
    assert timelines(record(4, partition=elsewhere)).beside(PROMPTS, A1, 5) == (None, None)


def test_what_comes_later_is_in_the_timeline_too() -> None:
    own = timelines(record(1), record(2, topic=INSTRUCTIONS))
    own.add_records([record(7)])
    assert own.beside(PROMPTS, A1, 8) == (stood(7), None)
    assert own.beside(INSTRUCTIONS, A1, 8) == (stood(2), None)
