"""The messages about transactions, as bytes from Kafka's protocol guide; and when a transaction hangs."""

from typing import Any

import pytest

from processors.kafka.transactions import (
    DESCRIBE_PRODUCERS,
    DESCRIBE_TRANSACTIONS,
    LIST_TRANSACTIONS,
    WRITE_TXN_MARKERS,
    LoggedDecision,
    OpenTransaction,
    described,
    internal_partition,
    logged_decision,
)
from schemas.coordinates import Partition
from schemas.errors import CJStreamError

NO_TAGS: dict[int, bytes] = {}


def as_bytes(*parts: str) -> bytes:
    """Hexadecimal digits; spaces are ignored."""
    return bytes.fromhex("".join(parts))


@pytest.mark.parametrize(
    ("request_struct", "header", "body"),
    [
        (
            LIST_TRANSACTIONS(["Ongoing"], [7], NO_TAGS),
            "0042 0000 00000005 0002 6a73 00",  # key, version, correlation, client id, no tags
            "02 08 4f6e676f696e67"  # one state (count + 1), its length + 1, its text
            "02 0000000000000007"  # one producer id
            "00",  # no tags
        ),
        (
            DESCRIBE_TRANSACTIONS(["t1"], NO_TAGS),
            "0041 0000 00000005 0002 6a73 00",
            "02 03 7431 00",
        ),
        (
            DESCRIBE_PRODUCERS([("a", [0, 3], NO_TAGS)], NO_TAGS),
            "003d 0000 00000005 0002 6a73 00",
            "02 02 61"  # one topic, "a"
            "03 00000000 00000003"  # two partitions
            "00 00",  # no tags of the topic, none of the request
        ),
        (
            WRITE_TXN_MARKERS([(7, 1, False, [("a", [3], NO_TAGS)], 2, NO_TAGS)], NO_TAGS),
            "001b 0001 00000005 0002 6a73 00",
            "02 0000000000000007 0001 00"  # one marker: producer id, epoch, abort
            "02 02 61 02 00000003 00"  # one topic, "a", one partition
            "00000002"  # the coordinator's epoch
            "00 00",
        ),
    ],
)
def test_a_request_has_the_bytes_of_the_protocol(
    request_struct: Any, header: str, body: str
) -> None:
    assert request_struct.build_request_header(5, "js").encode() == as_bytes(header)
    assert request_struct.encode() == as_bytes(body)


@pytest.mark.parametrize(
    ("request_class", "body", "expected"),
    [
        (
            LIST_TRANSACTIONS,
            "00000000 0000 01"  # throttle time, no error, no unknown states
            "02 03 7431 0000000000000007 06 456d707479 00 00",  # t1, producer 7, "Empty"
            {
                "throttle_time_ms": 0,
                "error_code": 0,
                "unknown_state_filters": [],
                "transactions": [
                    {"transactional_id": "t1", "producer_id": 7, "state": "Empty", "tags": {}}
                ],
                "tags": {},
            },
        ),
        (
            DESCRIBE_TRANSACTIONS,
            "00000000 02 0000 03 7431 06 456d707479 00002710"  # no error, t1, "Empty", 10 s
            "ffffffffffffffff 0000000000000007 0002"  # no start time, producer 7, epoch 2
            "02 02 61 02 00000003 00 00 00",
            {
                "throttle_time_ms": 0,
                "transactions": [
                    {
                        "error_code": 0,
                        "transactional_id": "t1",
                        "state": "Empty",
                        "timeout_ms": 10_000,
                        "start_time_ms": -1,
                        "producer_id": 7,
                        "producer_epoch": 2,
                        "topics": [{"topic": "a", "partitions": [3], "tags": {}}],
                        "tags": {},
                    }
                ],
                "tags": {},
            },
        ),
        (
            DESCRIBE_PRODUCERS,
            "00000000 02 02 61 02 00000003 0000 00"  # topic a, partition 3, no error, no message
            "02 0000000000000007 00000002 00000009"  # producer 7, epoch 2, sequence 9
            "0000000000000064 ffffffff 000000000000000b"  # time, no coordinator, start offset 11
            "00 00 00 00",
            {
                "throttle_time_ms": 0,
                "topics": [
                    {
                        "topic": "a",
                        "partitions": [
                            {
                                "partition": 3,
                                "error_code": 0,
                                "error_message": None,
                                "producers": [
                                    {
                                        "producer_id": 7,
                                        "producer_epoch": 2,
                                        "last_sequence": 9,
                                        "last_timestamp_ms": 100,
                                        "coordinator_epoch": -1,
                                        "start_offset": 11,
                                        "tags": {},
                                    }
                                ],
                                "tags": {},
                            }
                        ],
                        "tags": {},
                    }
                ],
                "tags": {},
            },
        ),
        (
            WRITE_TXN_MARKERS,
            "02 0000000000000007 02 02 61 02 00000003 0006 00 00 00 00",
            {
                "markers": [
                    {
                        "producer_id": 7,
                        "topics": [
                            {
                                "topic": "a",
                                "partitions": [{"partition": 3, "error_code": 6, "tags": {}}],
                                "tags": {},
                            }
                        ],
                        "tags": {},
                    }
                ],
                "tags": {},
            },
        ),
    ],
)
def test_a_response_is_read_from_the_bytes_of_the_protocol(
    request_class: Any, body: str, expected: dict[str, Any]
) -> None:
    response = request_class.RESPONSE_TYPE
    assert response.decode(as_bytes(body)).to_object() == expected
    assert response.decode(as_bytes(body)).encode() == as_bytes(body)


COMMIT = LoggedDecision(7, 2, True, frozenset({Partition("a", 3)}))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (  # version 0: plain strings and counts
            "0000 0000000000000007 0002 00002710 02 00000001 0001 61 00000001 00000003"
            "0000000000000064 0000000000000032",
            COMMIT,
        ),
        (  # version 1: compact, with tags
            "0001 0000000000000007 0002 00002710 02 02 02 61 02 00000003 00"
            "0000000000000064 0000000000000032 00",
            COMMIT,
        ),
        (
            "0000 0000000000000007 0002 00002710 03 00000001 0001 61 00000001 00000003"
            "0000000000000064 0000000000000032",
            COMMIT._replace(is_commit=False),
        ),
        (  # version 1: it is complete, so there are no partitions
            "0001 0000000000000007 0002 00002710 04 00 0000000000000064 0000000000000032 00",
            None,
        ),
        ("0002 00", None),  # a version that is not known
        ("", None),  # a tombstone
    ],
)
def test_a_decision_is_read_from_the_bytes_of_the_coordinators_log(
    body: str, expected: LoggedDecision | None
) -> None:
    assert logged_decision(as_bytes(body)) == expected


def test_a_truncated_record_of_the_coordinators_log_is_refused() -> None:
    with pytest.raises(CJStreamError, match="cannot be read"):
        logged_decision(as_bytes("0001 0000000000000007"))


@pytest.mark.parametrize(
    ("name", "partition"),
    [
        ("cjstream-prep", 13),  # Java: Math.abs("cjstream-prep".hashCode()) % 50
        ("polygenelubricants", 0),  # its hash code is the smallest integer
        ("", 0),
    ],
)
def test_an_internal_partition_is_that_of_javas_hash_code(name: str, partition: int) -> None:
    assert internal_partition(name, 50) == partition


@pytest.mark.parametrize(
    ("ongoing_since_ms", "now_ms", "hangs"),
    [(500, 60_500, False), (500, 60_501, True), (None, 1_000, True)],
)
def test_a_transaction_hangs_if_its_coordinator_lost_it_or_lets_it_stay_open(
    ongoing_since_ms: int | None, now_ms: int, *, hangs: bool
) -> None:
    opened = OpenTransaction(
        Partition("a", 3), 7, 2, 0, 11, 1_000, "t1", "Ongoing", ongoing_since_ms
    )
    assert opened.hangs(now_ms, 60) is hangs


@pytest.mark.parametrize(
    ("known", "is_lost"),
    [
        (None, True),  # no coordinator knows the producer
        (("Ongoing", 2, [3]), False),
        (("Ongoing", 3, [3]), True),  # a later transaction of a restarted producer
        (("Ongoing", 2, [4]), True),  # the partition was never added, or is done
        (("PrepareCommit", 3, [3]), False),  # its marker is being written
        (("PrepareAbort", 2, [3]), False),
        (("PrepareEpochFence", 3, [3]), False),
        (("PrepareCommit", 2, [4]), True),
        (("CompleteCommit", 2, []), True),
        (("Empty", 3, []), True),
    ],
)
def test_a_transaction_is_lost_if_its_coordinator_will_write_no_marker_to_the_partition(
    known: tuple[str, int, list[int]] | None, *, is_lost: bool
) -> None:
    producer = {
        "producer_id": 7,
        "producer_epoch": 2,
        "coordinator_epoch": 0,
        "start_offset": 11,
        "last_timestamp_ms": 1_000,
    }
    transaction = known and {
        "transactional_id": "t1",
        "state": known[0],
        "producer_epoch": known[1],
        "start_time_ms": 500,
        "topics": [{"topic": "a", "partitions": known[2]}],
    }
    found = described(Partition("a", 3), producer, transaction)
    assert (found.ongoing_since_ms is None) is is_lost
    assert found.since_ms == (1_000 if is_lost else 500)
    assert (found.transactional_id, found.state) == (("t1", known[0]) if known else ("", ""))
