"""Reading the headers of dead letters, and writing the headers of re-driven records and markers."""

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
    read_dead_letter_headers,
    read_marker,
    redriven_headers,
)
from schemas.errors import Malformed

AT = Coordinates("cj.requests.v1", 2, 77)
DEAD_AT = Coordinates("cj.requests.dlq.v1", 2, 5)
NAMES = st.sampled_from(
    ["traceparent", "kafka_dlt-original-topic", "cjstream-redriven", "cjstream-redrive-attempt"]
)
ORIGINAL_HEADERS = st.lists(
    st.tuples(NAMES | st.text(max_size=5), st.none() | st.binary(max_size=9)), max_size=9
)


@given(ORIGINAL_HEADERS, st.text(max_size=30))
def test_dead_letter_headers_are_read_back_after_any_original_headers(
    original: list[tuple[str, bytes | None]], message: str
) -> None:
    headers = dead_letter_headers(AT, 123, Malformed(message), original)
    refusal = read_dead_letter_headers(headers)
    assert refusal == DeadLetterHeaders(
        AT, 123, "schemas.errors.Malformed", message, tuple(original)
    )
    assert not is_marker(headers)


def test_other_headers_are_not_those_of_a_dead_letter() -> None:
    complete = dead_letter_headers(AT, 123, Malformed("x"))
    for headers in (
        [],
        complete[1:],
        [*complete, ("later", b"")],
        marker_headers(DEAD_AT, "superseded"),
    ):
        with pytest.raises(Malformed):
            read_dead_letter_headers(headers)


def test_a_marker_names_its_dead_letter_and_the_new_coordinates() -> None:
    headers = marker_headers(DEAD_AT, "cj.requests.v1/2@99")
    assert is_marker(headers)
    assert read_marker(headers) == (DEAD_AT, "cj.requests.v1/2@99")


def refused_again(
    refusal: DeadLetterHeaders, at: Coordinates, appended_at_ms: int
) -> DeadLetterHeaders:
    """The dead letter of a re-driven record that was refused again."""
    headers = redriven_headers(DEAD_AT, refusal)
    return read_dead_letter_headers(
        dead_letter_headers(at, appended_at_ms, Malformed("still"), headers)
    )


def test_every_redrive_counts_an_attempt_and_keeps_the_origin() -> None:
    trace = ("traceparent", b"\xff")
    refusal = read_dead_letter_headers(dead_letter_headers(AT, 123, Malformed("x"), [trace]))
    assert (refusal.attempt, refusal.origin) == (0, Origin(AT, 123))
    for attempt in (1, 2, 3):
        refusal = refused_again(refusal, Coordinates(AT.topic, 2, 100 + attempt), 500 + attempt)
        assert (refusal.attempt, refusal.origin) == (attempt, Origin(AT, 123))
        assert refusal.original_headers[0] == trace
        assert len(refusal.original_headers) == 4


@pytest.mark.parametrize(
    "value", [b"", b"minus one", b"-1", b"\xb2", b"99999999999999999999", None]
)
def test_an_attempt_header_that_is_not_a_number_counts_as_zero(value: bytes | None) -> None:
    headers = [("cjstream-redrive-attempt", value)]
    assert DeadLetterHeaders(AT, 1, "", "", headers).attempt == 0


@pytest.mark.parametrize("value", [b"", b"t/1@2", b"t/1@2 x", b"nonsense 5", b"t/1 5"])
def test_an_invalid_origin_header_means_the_record_itself_is_the_origin(value: bytes) -> None:
    assert origin_of([("cjstream-redrive-origin", value)], AT, 9) == Origin(AT, 9)


def test_age_compares_offsets_within_a_partition_and_times_across_partitions() -> None:
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
def test_coordinates_are_parsed_from_their_text(at: Coordinates) -> None:
    assert coordinates_from(str(at)) == at


@pytest.mark.parametrize("text", ["", "t", "t/1", "t@1", "t/x@1", "t/1@-1", "t/1@1 ", "t/\u0661@1"])
def test_text_that_is_not_coordinates_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        coordinates_from(text)
