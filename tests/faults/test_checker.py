"""The checker finds each kind of fault in hand-made records."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.events import (
    AssignmentContext,
    CJBatchPrepared,
    CJBatchUnresolved,
    ParkedRequest,
    ProcessingMetadata,
    Provenance,
    UploadUsed,
)
from tables.context import fold
from tests.faults import reading
from tests.faults.checker import (
    Findings,
    Terms,
    changes_of,
    check_outcomes,
    dead_letter_of,
    outcome_of,
)
from tests.faults.checking import (
    check_parked,
    check_table,
    check_uploads,
    is_upload,
    live_parked,
    reverted,
)
from tests.faults.reading import Read
from tests.support.builders import instructions_deleted, instructions_uploaded, requested

CODEC = Codec()
KEY = b"assignment:a1"
REQUESTS, BATCHES, LETTERS = "cj.requests.v1", "cj.batches.v1", "cj.requests.dlq.v1"
UPLOADS = [instructions_uploaded(f"v{n}", version=n, event_id=f"i-{n}") for n in (1, 2, 3)]


def at(topic: str, partition: int, offset: int) -> reading.Coordinates:
    return reading.Coordinates(topic, partition, offset)


def upload_at(offset: int) -> reading.Coordinates:
    return at("instructions", 0, offset)


def log_of(*events: Any) -> dict[str, list[Read]]:
    """Uploads of instructions, one every 100 ms, starting at 100 ms."""
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
    """The outcome of the request at this offset, prepared with a version of the instructions."""
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
    outcome_at = at(BATCHES, changes.get("partition", 1), offset)
    return Read(outcome_at, changes.get("appended_at_ms", 450), b"k", CODEC.encode(event))


def found(
    requests: Sequence[Read],
    outcomes: Sequence[Read],
    uploads: Sequence[Any] = UPLOADS,
    **terms: Any,
) -> Findings:
    decoded = [
        (dead_letter_of if record.at.topic == LETTERS else outcome_of)(record)
        for record in outcomes
    ]
    return check_outcomes(requests, decoded, changes_of(log_of(*uploads)), Terms(**terms))


def test_one_correct_outcome_for_each_request_is_no_fault() -> None:
    assert found([request(0), request(1)], [prepared(0), prepared(1, 3)]).faults == {}


def test_a_request_without_outcome_is_missing() -> None:
    assert found([request(0), request(1)], [prepared(0)]).missing == [at(REQUESTS, 1, 1)]


def test_a_second_outcome_is_a_duplicate() -> None:
    twice = [prepared(0), prepared(0)]
    assert found([request(0)], twice).duplicated == [at(REQUESTS, 1, 0)]


def test_a_second_outcome_in_another_topic_is_a_duplicate() -> None:
    assert found([request(0)], [prepared(0), unresolved(0, 2)]).faults == {"duplicated": 1}


def test_an_outcome_without_a_request_is_invented() -> None:
    assert found([request(0)], [prepared(0), prepared(7)]).faults == {"invented": 1}


def test_an_outcome_in_another_partition_than_its_request_is_found() -> None:
    assert found([request(0)], [prepared(0, partition=2)]).faults == {"wrong_partition": 1}


def test_an_outcome_with_another_request_is_altered() -> None:
    other = requested(batch_id="another")
    assert found([request(0)], [prepared(0, request=other)]).faults == {"altered": 1}


@pytest.mark.parametrize("version", [1, None])
def test_an_outcome_with_an_older_context_or_none_is_stale(version: int | None) -> None:
    assert found([request(0)], [prepared(0, version)]).faults == {"stale": 1}


def test_an_upload_that_is_newer_than_the_outcome_is_found() -> None:
    early = prepared(0, 3, appended_at_ms=260)
    assert found([request(0)], [early]).faults == {"stale": 1}


def test_no_context_is_correct_before_the_first_upload_and_after_a_deletion() -> None:
    assert found([request(0, 50)], [prepared(0, None)]).faults == {}
    deleted = (UPLOADS[0], instructions_deleted())
    assert found([request(0)], [prepared(0, None)], deleted).faults == {}
    assert found([request(0)], [prepared(0, 1)], deleted).faults == {"stale": 1}


def test_a_request_must_see_only_uploads_acknowledged_before_it() -> None:
    late = {upload_at(0): 100, upload_at(1): 250}
    assert found([request(0)], [prepared(0, 1)], acknowledged=late).faults == {}
    assert found([request(0)], [prepared(0, 2)], acknowledged=late).faults == {}
    in_time = {**late, upload_at(1): 249}
    assert found([request(0)], [prepared(0, 1)], acknowledged=in_time).faults == {"stale": 1}


def test_a_dead_letter_of_a_valid_request_and_a_prepared_damaged_request_are_found() -> None:
    assert found([request(0)], [dead_letter(0)]).faults == {"wrong_kind": 1}
    assert found([request(0)], [dead_letter(0, reason="too large")]).faults == {}
    damaged = request(0)._replace(value=b"damaged")
    assert found([damaged], [prepared(0)]).faults == {"wrong_kind": 1, "altered": 1}


def test_an_outcome_of_the_wrong_kind_is_found() -> None:
    policy: dict[str, Any] = {"required": ("instructions",), "patience_s": 1}
    assert found([request(0)], [prepared(0)], **policy).faults == {}
    assert found([request(0)], [unresolved(0, 2)], **policy).faults == {"wrong_kind": 1}
    early, late = unresolved(0, appended_at_ms=1249), unresolved(0, appended_at_ms=1250)
    assert found([request(0)], [early], (), **policy).faults == {"wrong_kind": 1}
    assert found([request(0)], [late], (), **policy).faults == {}
    assert found([request(0)], [prepared(0, None)], (), **policy).faults == {"wrong_kind": 1}


def unresolved(offset: int, used: int | None = None, appended_at_ms: int = 450) -> Read:
    value: Any = CODEC.decode(prepared(offset, used).value)
    event = CJBatchUnresolved(
        event_id="any",
        recipe=1,
        provenance=value.provenance,
        scope_key="assignment:a1",
        missing=("instructions",),
        request=value.request,
    )
    return Read(at(BATCHES, 1, offset), appended_at_ms, b"k", CODEC.encode(event))


def dead_letter(offset: int, value: bytes | None = None, reason: str = "") -> Read:
    headers = [
        ("kafka_dlt-original-topic", REQUESTS.encode()),
        ("kafka_dlt-original-partition", b"1"),
        ("kafka_dlt-original-offset", str(offset).encode()),
        ("kafka_dlt-exception-message", reason.encode()),
    ]
    value = value or request(offset).value
    return Read(at(LETTERS, 1, offset), 300, b"k", value, headers)


def test_a_dead_letter_that_is_not_byte_for_byte_is_altered() -> None:
    damaged = request(0)._replace(value=b"damaged")
    assert found([damaged], [dead_letter(0, b"damaged")]).faults == {}
    assert found([damaged], [dead_letter(0, b"damage")]).faults == {"altered": 1}


def letters(*written: Read) -> dict[str, int]:
    """The faults if the first upload is damaged and these dead letters were written."""
    found = Findings()
    check_uploads(found, [request(0)._replace(value=b"damaged")], map(dead_letter_of, written))
    return found.faults


def test_a_damaged_upload_needs_one_or_more_dead_letters() -> None:
    right = dead_letter(0, b"damaged")
    assert letters(right) == letters(right, right) == {}
    assert letters() == {"no_dead_letter": 1}
    assert letters(dead_letter(0, b"other")) == {"altered": 1}
    assert letters(right, dead_letter(1)) == {"invented": 1}


def test_a_valid_upload_matches_its_topic_and_key() -> None:
    (valid,) = log_of(UPLOADS[0])["instructions"]
    assert is_upload(valid, "instructions")
    assert not is_upload(valid, "student_prompt")
    assert not is_upload(valid._replace(key=b"assignment:a2"), "instructions")
    assert not is_upload(valid._replace(value=b"damaged"), "instructions")


def row(*uploads: int, offset: int = 0, partition: int = 0) -> Read:
    """The row of a1 after the uploads at these offsets."""
    rows: dict[str, AssignmentContext] = {}
    for upload_offset in uploads:
        source = Coordinates("instructions", 0, upload_offset)
        fold(rows, UPLOADS[upload_offset], source, 100 + 100 * upload_offset)
    (context,) = rows.values()
    return Read(at("context", partition, offset), 0, KEY, CODEC.encode(context))


def test_a_changelog_that_differs_from_the_fold_is_found() -> None:
    changes = changes_of(log_of(*UPLOADS))
    assert check_table([row(0), row(0, 1, 2, offset=1)], changes) == []
    late_writer = [row(0, 1, 2), row(0, offset=1)]
    assert len(check_table(late_writer, changes)) == 1
    assert len(check_table([], changes)) == 1
    assert len(check_table([row(0, 1, 2, partition=1)], changes)) == 1
    tombstone = row(0)._replace(at=at("context", 0, 1), value=None)
    assert len(check_table([row(0, 1, 2), tombstone], changes)) == 1


def test_an_old_upload_that_was_appended_anew_over_a_newer_one_is_found() -> None:
    first, second, _ = UPLOADS
    assert reverted(changes_of(log_of(first, first, second, second))) == []
    (fault,) = reverted(changes_of(log_of(first, second, first)))
    assert fault == f"{upload_at(2)} again has i-1, after i-2 at {upload_at(1)}"


def parked(offset: int, deadline_at_ms: int = 1000, **changes: Any) -> Read:
    key = f"{REQUESTS}/1@{offset}".encode()
    event = ParkedRequest(
        request_at=Coordinates(REQUESTS, 1, offset),
        scope_key="assignment:a1",
        missing=("instructions",),
        appended_at_ms=250,
        deadline_at_ms=deadline_at_ms,
        request=changes.get("request") or request(offset).value or b"",
    )
    return Read(at("parked", 1, offset), 260, key, CODEC.encode(event))


def parked_faults(
    record: Read, uploads: Sequence[Any] = (), *, has_outcome: bool = False
) -> dict[str, int]:
    """The faults at 500 ms if this request is parked."""
    found, live, terms = Findings(), live_parked([record]), Terms(("instructions",))
    changes = changes_of(log_of(*uploads))
    check_parked(found, live, [request(0)], list(live) * has_outcome, changes, terms, 500)
    return found.faults


def test_a_parked_request_that_should_be_released_is_found() -> None:
    assert parked_faults(parked(0)) == {}
    assert parked_faults(parked(0, deadline_at_ms=499)) == {"not_released": 1}
    assert parked_faults(parked(0), UPLOADS) == {"not_released": 1}
    assert parked_faults(parked(0), (*UPLOADS, instructions_deleted())) == {}
    assert parked_faults(parked(0), has_outcome=True) == {"not_released": 1}
    assert parked_faults(parked(0, request=request(1).value)) == {"altered": 1}
    assert parked_faults(parked(3)) == {"invented": 1}


def test_a_tombstone_releases_and_a_parked_request_is_not_missing() -> None:
    tombstone = parked(0)._replace(value=None)
    clock = parked(0)._replace(key=b"clock", value=None)
    assert live_parked([parked(0), tombstone, clock]) == {}
    poison = [parked(1)._replace(value=value) for value in (b"", row(0).value)]
    live = live_parked([parked(0), *poison])
    assert [*live] == [request(0).at]
    assert check_outcomes([request(0)], [], {}, Terms(), live).faults == {}
