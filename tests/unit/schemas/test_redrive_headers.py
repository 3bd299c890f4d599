"""The headers of a dead letter read back, and those of its re-drive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.coordinates import Coordinates, coordinates_from
from schemas.dead_letters import (
    DeadLetterHeaders,
    Origin,
    dead_letter_headers,
    is_marker,
    marker_headers,
    origin_of,
    read_marker,
    read_refusal,
    redriven_headers,
)
from schemas.errors import Malformed

AT = Coordinates("cj.requests.v1", 2, 77)
DEAD_AT = Coordinates("cj.requests.dlq.v1", 2, 5)
NAMES = st.sampled_from(
    ["traceparent", "kafka_dlt-original-topic", "cjstream-redriven", "cjstream-redrive-attempt"]
)
OWN = st.lists(
    st.tuples(NAMES | st.text(max_size=5), st.none() | st.binary(max_size=9)), max_size=9
)


@given(OWN, st.text(max_size=30))
def test_what_a_dead_letter_tells_is_read_back_whatever_headers_the_record_had(
    own: list[tuple[str, bytes | None]], message: str
) -> None:
    headers = dead_letter_headers(AT, 123, Malformed(message), own)
    refusal = read_refusal(headers)
    assert refusal == DeadLetterHeaders(AT, 123, "schemas.errors.Malformed", message, tuple(own))
    assert not is_marker(headers)


def test_other_headers_are_no_dead_letters() -> None:
    whole = dead_letter_headers(AT, 123, Malformed("x"))
    for headers in ([], whole[1:], [*whole, ("later", b"")], marker_headers(DEAD_AT, "superseded")):
        with pytest.raises(Malformed):
            read_refusal(headers)


def test_a_marker_names_its_dead_letter_and_where_it_went() -> None:
    headers = marker_headers(DEAD_AT, "cj.requests.v1/2@99")
    assert is_marker(headers)
    assert read_marker(headers) == (DEAD_AT, "cj.requests.v1/2@99")


def refused_again(
    refusal: DeadLetterHeaders, at: Coordinates, appended_at_ms: int
) -> DeadLetterHeaders:
    """What the next dead letter tells of a re-driven record that was refused as well."""
    kept = redriven_headers(DEAD_AT, refusal)
    return read_refusal(dead_letter_headers(at, appended_at_ms, Malformed("still"), kept))


def test_attempts_are_counted_and_the_origin_stays_through_every_redrive() -> None:
    trace = ("traceparent", b"\xff")
    refusal = read_refusal(dead_letter_headers(AT, 123, Malformed("x"), [trace]))
    assert (refusal.attempt, refusal.origin) == (0, Origin(AT, 123))
    for attempt in (1, 2, 3):
        refusal = refused_again(refusal, Coordinates(AT.topic, 2, 100 + attempt), 500 + attempt)
        assert (refusal.attempt, refusal.origin) == (attempt, Origin(AT, 123))
        assert refusal.own[0] == trace
        assert len(refusal.own) == 4


@pytest.mark.parametrize("told", [b"", b"minus one", b"-1", b"\xb2", b"99999999999999999999", None])
def test_a_foreign_attempt_header_that_is_no_number_counts_as_none(told: bytes | None) -> None:
    own = [("cjstream-redrive-attempt", told)]
    assert DeadLetterHeaders(AT, 1, "", "", own).attempt == 0


@pytest.mark.parametrize("told", [b"", b"t/1@2", b"t/1@2 x", b"nonsense 5", b"t/1 5"])
def test_an_origin_that_cannot_be_read_is_where_the_record_stands(told: bytes) -> None:
    assert origin_of([("cjstream-redrive-origin", told)], AT, 9) == Origin(AT, 9)


def test_age_is_told_by_offset_within_a_partition_and_by_time_across() -> None:
    early, late = Origin(Coordinates("t", 1, 5), 900), Origin(Coordinates("t", 1, 8), 100)
    assert early.is_before(late)
    assert not late.is_before(early)
    elsewhere = Origin(Coordinates("t", 3, 1), 500)
    assert elsewhere.is_before(early)
    assert late.is_before(elsewhere)


@given(
    st.builds(
        Coordinates,
        st.from_regex(r"[a-zA-Z0-9._-]+", fullmatch=True),
        st.integers(0, 9999),
        st.integers(0, 2**62),
    )
)
def test_coordinates_are_read_from_their_text(at: Coordinates) -> None:
    assert coordinates_from(str(at)) == at


@pytest.mark.parametrize("text", ["", "t", "t/1", "t@1", "t/x@1", "t/1@-1", "t/1@1 ", "t/\u0661@1"])
def test_what_is_no_coordinates_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        coordinates_from(text)
