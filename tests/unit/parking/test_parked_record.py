"""A record of the parked topic is read without trust: any producer may have written it."""

from dataclasses import replace

import pytest

from processors.parking.parked_record import (
    AT_ONCE,
    MAX_PATIENCE_MS,
    content_of,
    entry_of,
    read_entry,
    request_of_key,
    true_entry,
    unreadable_entry,
)
from schemas.codec import FRAME, Codec
from schemas.coordinates import Coordinates
from schemas.errors import BadRecord, Malformed
from schemas.events import ParkedRequest
from tests.support.builders import requested

CODEC = Codec()
REQUESTS = "cj.requests.v1"
AT = Coordinates(REQUESTS, 2, 7)
REQUEST = CODEC.encode(requested(assignment_id="a1"))
APPENDED_MS = 1_000_000
PARKED = ParkedRequest(
    request_at=AT,
    scope_key="assignment:a1",
    missing=("instructions",),
    appended_at_ms=APPENDED_MS,
    deadline_at_ms=APPENDED_MS + 900_000,
    request_key=b"k",
    request=REQUEST,
)


def test_the_key_of_an_entry_is_the_coordinates_of_its_request() -> None:
    assert request_of_key(b"cj.requests.v1/2@7", REQUESTS, 2) == AT


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"garbage",
        b"clock",
        b"\xff\xfe",
        b"cj.requests.v1/2@07",
        b"cj.requests.v1/02@7",
        b"cj.requests.v1/2@7 ",
        b"cj.requests.v1/3@7",
        b"cj.batches.v1/2@7",
        b"cj.requests.v1/2@-1",
        "cj.requests.v1/2@\u0667".encode(),
        b"cj.requests.v1/2@" + b"9" * 20,
    ],
)
def test_any_other_key_names_no_request(key: bytes | None) -> None:
    with pytest.raises(Malformed):
        request_of_key(key, REQUESTS, 2)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        FRAME.pack(0, 1_000_000_100) + b"of a later release",
        CODEC.encode(PARKED)[:-1],
        CODEC.encode(PARKED) + b"\0",
        CODEC.encode(replace(PARKED, request_at=replace(AT, partition=1))),
        CODEC.encode(replace(PARKED, request_at=replace(AT, offset=8))),
        CODEC.encode(replace(PARKED, request_at=replace(AT, topic="other"))),
        CODEC.encode(replace(PARKED, request=b"")),
        CODEC.encode(replace(PARKED, request=REQUEST[:-1])),
        CODEC.encode(replace(PARKED, request=CODEC.encode(PARKED))),
        CODEC.encode(replace(PARKED, request=b"\0" * 2_000_000)),
        REQUEST,
    ],
)
def test_anything_but_a_valid_entry_of_its_request_is_a_bad_record(value: bytes) -> None:
    with pytest.raises(BadRecord):
        read_entry(value, AT, CODEC)


def entry(parked: ParkedRequest, appended_at_ms: int = APPENDED_MS + 10) -> tuple[str, bool, int]:
    found = entry_of(read_entry(CODEC.encode(parked), AT, CODEC), 3, appended_at_ms)
    return found.scope_key, found.brings_prompt, found.deadline_at_ms


def test_the_scope_of_an_entry_is_that_of_its_request() -> None:
    forged = replace(PARKED, scope_key="assignment:other", missing=("nothing", "known"))
    assert entry(forged) == ("assignment:a1", False, PARKED.deadline_at_ms)


@pytest.mark.parametrize(
    ("appended_at_ms", "deadline_at_ms"),
    [
        (APPENDED_MS, APPENDED_MS),
        (APPENDED_MS, -(2**62)),
        (APPENDED_MS, 2**62),
        (APPENDED_MS, APPENDED_MS + MAX_PATIENCE_MS + 1),
        (2**62, 2**62 + 1),
    ],
)
def test_an_entry_with_times_that_cannot_be_is_checked_at_once(
    appended_at_ms: int, deadline_at_ms: int
) -> None:
    forged = replace(PARKED, appended_at_ms=appended_at_ms, deadline_at_ms=deadline_at_ms)
    assert entry(forged)[2] == AT_ONCE


@pytest.mark.parametrize("deadline_at_ms", [AT_ONCE, 2**62, APPENDED_MS + 5])
def test_the_request_log_decides_about_scope_content_and_possible_deadlines(
    deadline_at_ms: int,
) -> None:
    hint = replace(unreadable_entry(AT, 3), deadline_at_ms=deadline_at_ms)
    found = true_entry(hint, b"k", REQUEST, APPENDED_MS, APPENDED_MS + 600, CODEC)
    is_possible = deadline_at_ms == APPENDED_MS + 5
    assert (found.scope_key, found.content) == ("assignment:a1", content_of(b"k", REQUEST))
    assert found.deadline_at_ms == APPENDED_MS + (5 if is_possible else 600)
    again = true_entry(found, b"k", REQUEST, APPENDED_MS, APPENDED_MS + 600, CODEC)
    assert again == found


def test_a_good_entry_is_what_the_request_log_gives() -> None:
    good = entry_of(read_entry(CODEC.encode(PARKED), AT, CODEC), 3, APPENDED_MS)
    assert true_entry(good, b"k", REQUEST, APPENDED_MS, 0, CODEC) == good


def test_an_entry_of_a_request_that_is_not_valid_any_more_is_released_as_it_is() -> None:
    hint = unreadable_entry(AT, 3)
    assert true_entry(hint, b"k", b"broken", APPENDED_MS, 0, CODEC) == hint
