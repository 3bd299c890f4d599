"""The headers of a dead letter."""

from schemas.coordinates import Coordinates
from schemas.dead_letters import dead_letter_headers
from schemas.errors import Malformed, UnknownSchema

AT = Coordinates("cj.requests.v1", 2, 77)


def test_a_dead_letter_names_the_coordinates_of_its_record_and_the_reason() -> None:
    assert dead_letter_headers(AT, 1_700_000_000_123, Malformed("3 bytes left över")) == [
        ("kafka_dlt-original-topic", b"cj.requests.v1"),
        ("kafka_dlt-original-partition", b"2"),
        ("kafka_dlt-original-offset", b"77"),
        ("kafka_dlt-original-timestamp", b"1700000000123"),
        ("kafka_dlt-original-timestamp-type", b"LogAppendTime"),
        ("kafka_dlt-exception-fqcn", b"schemas.errors.Malformed"),
        ("kafka_dlt-exception-message", "3 bytes left över".encode()),
    ]


def test_a_dead_letter_starts_with_the_original_headers() -> None:
    original_headers: list[tuple[str, bytes | None]] = [
        ("traceparent", b"\xff"),
        ("empty", None),
        ("empty", b""),
    ]
    headers = dead_letter_headers(AT, 1, UnknownSchema("schema id 7"), original_headers)
    assert headers[:3] == original_headers
    assert dict(headers[3:])["kafka_dlt-exception-fqcn"] == b"schemas.errors.UnknownSchema"
