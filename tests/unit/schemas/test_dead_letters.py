"""What a dead letter tells in its headers."""

from schemas.coordinates import Coordinates
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Malformed, UnknownSchema

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
