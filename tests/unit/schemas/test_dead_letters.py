"""A dead letter keeps its record whole, or, if that does not fit, its checksums."""

import hashlib

import pytest

from schemas.coordinates import Coordinates
from schemas.dead_letters import (
    MAX_KEPT_BYTES,
    Refused,
    checksums,
    dead_letter,
    dead_letter_headers,
    read_dead_letter_headers,
)
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


FAULT = Malformed("too large")
HUGE = bytes(3 * 1024 * 1024)
TRACE: list[tuple[str, bytes | None]] = [("traceparent", b"x"), ("empty", None)]


def test_a_record_that_fits_is_kept_whole() -> None:
    record = Refused(b"k", bytes(MAX_KEPT_BYTES - 100), TRACE)
    letter = dead_letter(AT, 1, FAULT, record)
    assert letter == Refused(record.key, record.value, dead_letter_headers(AT, 1, FAULT, TRACE))
    assert read_dead_letter_headers(letter.headers).truncated is None


@pytest.mark.parametrize(
    "record",
    [
        Refused(b"k", HUGE, TRACE),
        Refused(HUGE, None, ()),
        Refused(None, b"v", [("h", HUGE)]),
        Refused(b"k", b"v", [(f"h{n}", bytes(50_000)) for n in range(60)]),
        Refused(HUGE[: MAX_KEPT_BYTES // 2], HUGE[: MAX_KEPT_BYTES // 2], [("h", b"x")]),
    ],
    ids=["value", "key", "header", "headers", "together"],
)
def test_a_record_that_does_not_fit_leaves_its_coordinates_sizes_and_sums(record: Refused) -> None:
    letter = dead_letter(AT, 1_700, FAULT, record)
    size = sum(len(name) + len(value or b"") for name, value in letter.headers)
    assert (letter.value, len(letter.key or b"") + size < 4096) == (None, True)
    refusal = read_dead_letter_headers(letter.headers)
    assert (refusal.at, refusal.appended_at_ms, refusal.message) == (AT, 1_700, "too large")
    assert refusal.truncated == checksums(record)
    assert refusal.original_headers == ()


def test_a_short_key_of_a_truncated_record_is_kept() -> None:
    assert dead_letter(AT, 1, FAULT, Refused(b"assignment:a1", HUGE, ())).key == b"assignment:a1"


def test_checksums_are_size_and_sha256_and_differ_for_different_headers() -> None:
    value_sum = f"3145728 {hashlib.sha256(HUGE).hexdigest()}"
    empty = f"0 {hashlib.sha256(b'').hexdigest()}"
    assert checksums(Refused(None, HUGE, ())) == ("-", value_sum, empty)
    different: list[list[tuple[str, bytes | None]]] = [
        [("a", b"b"), ("c", None)],
        [("ab", b""), ("c", None)],
        [("a", b"b"), ("c", b"")],
        [("c", None), ("a", b"b")],
    ]
    assert len({checksums(Refused(None, None, headers)) for headers in different}) == 4


def test_headers_that_look_like_those_of_a_truncated_record_change_nothing() -> None:
    truncated = dead_letter(AT, 1, FAULT, Refused(b"k", HUGE, ())).headers
    again = dead_letter(AT, 1, FAULT, Refused(b"k", b"small", truncated))
    refusal = read_dead_letter_headers(again.headers)
    assert (again.value, refusal.truncated) == (b"small", None)
    assert list(refusal.original_headers) == list(truncated)
