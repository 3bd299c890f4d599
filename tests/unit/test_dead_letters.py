"""What a dead letter and a join tell in their headers."""

from processors.batch_prep import told_positions
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Malformed, UnknownSchema
from schemas.events import Coordinates
from schemas.topics import Topics
from tables.replica import Partition

AT = Coordinates("cj.requests.v1", 2, 77)


def test_a_dead_letter_says_where_its_bytes_stood_and_why_they_were_refused() -> None:
    assert dead_letter_headers(AT, 1_700_000_000_123, Malformed("3 bytes left över")) == [
        ("kafka_dlt-original-topic", b"cj.requests.v1"),
        ("kafka_dlt-original-partition", b"2"),
        ("kafka_dlt-original-offset", b"77"),
        ("kafka_dlt-original-timestamp", b"1700000000123"),
        ("kafka_dlt-original-timestamp-type", b"LogAppendTime"),
        ("kafka_dlt-exception-fqcn", b"schemas.errors.Malformed"),
        ("kafka_dlt-exception-message", "3 bytes left över".encode()),
    ]


def test_a_dead_letter_keeps_its_own_headers_in_front() -> None:
    kept: list[tuple[str, bytes | None]] = [
        ("traceparent", b"\xff"),
        ("empty", None),
        ("empty", b""),
    ]
    headers = dead_letter_headers(AT, 1, UnknownSchema("schema id 7"), kept)
    assert headers[:3] == kept
    assert dict(headers[3:])["kafka_dlt-exception-fqcn"] == b"schemas.errors.UnknownSchema"


def test_a_join_tells_the_upload_positions_by_topic_and_partition() -> None:
    topics = Topics()
    instructions, prompts, rubrics = (topic.name for topic in topics.uploads)
    positions = {
        Partition(rubrics, 0): 0,
        Partition(instructions, 10): 4,
        Partition(instructions, 2): 3,
        Partition(prompts, 1): 8,
        Partition(prompts, 0): 7,
    }
    assert told_positions(positions, topics) == b"3 4|7 8|0"


def test_a_join_before_any_upload_tells_three_empty_topics() -> None:
    assert told_positions({}, Topics().under("p-")) == b"||"
