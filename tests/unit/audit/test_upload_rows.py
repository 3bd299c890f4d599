"""A scope's upload records: in log order, in their own partition, and how many are older than an offset."""

from schemas.coordinates import Coordinates
from schemas.partitioner import partition_for
from tables.upload_record import UploadRecord
from tests.support.installation_in_memory import UPLOADS
from tools.audit.check.upload_rows import OFFSET, UploadRows

INSTRUCTIONS, PROMPTS, RUBRICS = UPLOADS.by_name
A1 = b"assignment:a1"
PARTITION = partition_for(A1, UPLOADS.partitions)


def record(
    offset: int, key: bytes | None = A1, *, topic: str = PROMPTS, partition: int = PARTITION
) -> UploadRecord:
    return UploadRecord(Coordinates(topic, partition, offset), key, b"value", 1_000 + offset)


def uploads(*records: UploadRecord) -> UploadRows:
    rows = UploadRows(UPLOADS)
    rows.add_records(records)
    return rows


def around(rows: UploadRows, topic: str, key: bytes, offset: int) -> tuple[list[int], list[int]]:
    """The offsets of the scope's records before an offset, and of those at or after it."""
    found, older = rows.at(key, Coordinates(topic, partition_for(key, UPLOADS.partitions), offset))
    offsets = list(map(OFFSET, found))
    return offsets[:older], offsets[older:]


def test_the_records_around_an_offset_have_its_key_and_topic() -> None:
    rows = uploads(record(3), record(5, b"assignment:a2"), record(6, None), record(256))
    assert around(rows, PROMPTS, A1, 3) == ([], [3, 256])
    assert around(rows, PROMPTS, A1, 4) == ([3], [256])
    assert around(rows, PROMPTS, A1, 256) == ([3], [256])
    assert around(rows, PROMPTS, A1, 257) == ([3, 256], [])
    assert around(rows, RUBRICS, A1, 4) == around(rows, PROMPTS, b"assignment:a3", 4) == ([], [])
    assert rows.of(A1).topics[1][0] == (A1, 1, PARTITION, 3, 1_003, b"value")


def test_a_record_in_a_wrong_partition_is_ignored() -> None:
    wrong_partition = (PARTITION + 1) % UPLOADS.partitions
    rows = uploads(record(1), record(4, partition=wrong_partition), record(9))
    assert around(rows, PROMPTS, A1, 5) == ([1], [9])
    assert around(uploads(record(4, partition=wrong_partition)), PROMPTS, A1, 5) == ([], [])
    assert rows.at(A1, Coordinates(PROMPTS, wrong_partition, 5)) == ([], 0)


def test_records_can_be_added_in_several_calls() -> None:
    rows = uploads(record(1), record(2, topic=INSTRUCTIONS))
    rows.add_records([record(7)])
    assert around(rows, PROMPTS, A1, 8) == ([1, 7], [])
    assert around(rows, INSTRUCTIONS, A1, 8) == ([2], [])
