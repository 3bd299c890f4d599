"""The checker finds what was planted: it must fail where something is wrong, or it proves nothing."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.events import CJBatchPrepared, Coordinates, ProcessingMetadata, Provenance, UploadUsed
from tests.builders import instructions_deleted, instructions_uploaded, requested
from tests.faults import checker
from tests.faults.checker import Findings, Read, changes_of, dead_letter_of, judge, outcome_of

CODEC = Codec()
KEY = b"assignment:a1"
REQUESTS, BATCHES, LETTERS = "cj.requests.v1", "cj.batches.v1", "cj.requests.dlq.v1"
UPLOADS = [instructions_uploaded(f"v{n}", version=n, event_id=f"i-{n}") for n in (1, 2, 3)]


def at(topic: str, partition: int, offset: int) -> checker.Coordinates:
    return checker.Coordinates(topic, partition, offset)


def log_of(*events: Any) -> dict[str, list[Read]]:
    """Uploads of instructions, one every 100 ms from 100 ms on."""
    return {
        "instructions": [
            Read(at("instructions", 0, number), 100 + 100 * number, KEY, CODEC.encode(event))
            for number, event in enumerate(events)
        ]
    }


def request(offset: int, appended_at_ms: int = 250) -> Read:
    value = CODEC.encode(requested(batch_id=f"b-{offset}"))
    return Read(at(REQUESTS, 1, offset), appended_at_ms, b"k", value)


def prepared(offset: int, version: int | None = 2, **changes: Any) -> Read:
    """The outcome of the request at this offset, made with a version of the instructions."""
    used = None
    if version is not None:
        upload = UPLOADS[version - 1]
        source = Coordinates("instructions", 0, version - 1)
        used = UploadUsed(
            source=source, version=version, event_id=upload.event_id, sha256=upload.sha256
        )
    event = CJBatchPrepared(
        event_id="any",
        recipe=1,
        provenance=Provenance(request=Coordinates(REQUESTS, 1, offset), instructions=used),
        processing_metadata=ProcessingMetadata(context_source="assignment", prompt_source="none"),
        request=changes.get("request") or requested(batch_id=f"b-{offset}"),
    )
    place = at(BATCHES, changes.get("partition", 1), offset)
    return Read(place, changes.get("appended_at_ms", 450), b"k", CODEC.encode(event))


def found(
    requests: Sequence[Read], outcomes: Sequence[Read], uploads: Sequence[Any] = UPLOADS
) -> Findings:
    read = [(dead_letter_of if one.at.topic == LETTERS else outcome_of)(one) for one in outcomes]
    return judge(requests, read, changes_of(log_of(*uploads)))


def test_one_outcome_each_is_right() -> None:
    assert found([request(0), request(1)], [prepared(0), prepared(1, 3)]).faults == {}


def test_a_loss() -> None:
    assert found([request(0), request(1)], [prepared(0)]).missing == [at(REQUESTS, 1, 1)]


def test_a_duplicate() -> None:
    twice = [prepared(0), prepared(0)]
    assert found([request(0)], twice).duplicated == [at(REQUESTS, 1, 0)]


def test_a_duplicate_over_two_topics() -> None:
    assert found([request(0)], [prepared(0), dead_letter(0)]).faults == {"duplicated": 1}


def test_an_outcome_of_no_request() -> None:
    assert found([request(0)], [prepared(0), prepared(7)]).faults == {"invented": 1}


def test_a_wrong_partition() -> None:
    assert found([request(0)], [prepared(0, partition=2)]).faults == {"misplaced": 1}


def test_another_request_inside() -> None:
    other = requested(batch_id="another")
    assert found([request(0)], [prepared(0, request=other)]).faults == {"altered": 1}


@pytest.mark.parametrize("version", [1, None])
def test_a_stale_context(version: int | None) -> None:
    assert found([request(0)], [prepared(0, version)]).faults == {"stale": 1}


def test_a_context_from_the_future() -> None:
    early = prepared(0, 3, appended_at_ms=260)
    assert found([request(0)], [early]).faults == {"stale": 1}


def test_no_context_is_right_before_the_first_upload_and_after_a_deletion() -> None:
    assert found([request(0, 50)], [prepared(0, None)]).faults == {}
    deleted = (UPLOADS[0], instructions_deleted())
    assert found([request(0)], [prepared(0, None)], deleted).faults == {}
    assert found([request(0)], [prepared(0, 1)], deleted).faults == {"stale": 1}


def dead_letter(offset: int, value: bytes | None = None) -> Read:
    headers = [
        ("kafka_dlt-original-topic", REQUESTS.encode()),
        ("kafka_dlt-original-partition", b"1"),
        ("kafka_dlt-original-offset", str(offset).encode()),
    ]
    value = value or request(offset).value
    return Read(at(LETTERS, 1, offset), 300, b"k", value, headers)


def test_a_dead_letter_that_is_not_byte_for_byte() -> None:
    assert found([request(0)], [dead_letter(0)]).faults == {}
    assert found([request(0)], [dead_letter(0, b"cut")]).faults == {"altered": 1}
