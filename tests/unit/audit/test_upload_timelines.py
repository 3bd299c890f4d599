"""A scope's timeline: its records in log order, in their own partition, and the neighbours of an offset."""

from schemas.coordinates import Coordinates
from schemas.partitioner import partition_for
from tables.upload_record import UploadRecord
from tests.support.installation_in_memory import UPLOADS
from tools.audit.check.upload_timelines import TimelineRecord, UploadTimelines

INSTRUCTIONS, PROMPTS, RUBRICS = UPLOADS.by_name
A1 = b"assignment:a1"
PARTITION = partition_for(A1, UPLOADS.partitions)


def record(
    offset: int, key: bytes | None = A1, *, topic: str = PROMPTS, partition: int = PARTITION
) -> UploadRecord:
    return UploadRecord(Coordinates(topic, partition, offset), key, b"value", 1_000 + offset)


def timelines(*records: UploadRecord) -> UploadTimelines:
    uploads = UploadTimelines(UPLOADS)
    uploads.add_records(records)
    return uploads


def entry(offset: int) -> TimelineRecord:
    return TimelineRecord(offset, 1_000 + offset, b"value")


def test_the_neighbours_of_an_offset_have_its_key_and_topic() -> None:
    uploads = timelines(record(3), record(5, b"assignment:a2"), record(6, None), record(256))
    assert uploads.neighbours(PROMPTS, A1, 3) == (None, entry(3))
    assert uploads.neighbours(PROMPTS, A1, 4) == (entry(3), entry(256))
    assert uploads.neighbours(PROMPTS, A1, 256) == (entry(3), entry(256))
    assert uploads.neighbours(PROMPTS, A1, 257) == (entry(256), None)
    assert (
        uploads.neighbours(RUBRICS, A1, 4)
        == uploads.neighbours(PROMPTS, b"assignment:a3", 4)
        == (None, None)
    )


def test_a_record_in_a_wrong_partition_is_ignored() -> None:
    wrong_partition = (PARTITION + 1) % UPLOADS.partitions
    uploads = timelines(record(1), record(4, partition=wrong_partition), record(9))
    assert uploads.neighbours(PROMPTS, A1, 5) == (entry(1), entry(9))
    assert timelines(record(4, partition=wrong_partition)).neighbours(PROMPTS, A1, 5) == (
        None,
        None,
    )


def test_records_can_be_added_in_several_calls() -> None:
    uploads = timelines(record(1), record(2, topic=INSTRUCTIONS))
    uploads.add_records([record(7)])
    assert uploads.neighbours(PROMPTS, A1, 8) == (entry(7), None)
    assert uploads.neighbours(INSTRUCTIONS, A1, 8) == (entry(2), None)
