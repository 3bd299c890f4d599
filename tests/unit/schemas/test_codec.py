"""The codec: an encoded event decodes to itself, and damaged bytes raise nothing but BadRecord."""

import math
import struct
from io import BytesIO

import fastavro
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.outcomes.outcome_builder import OutcomeBuilder, outcome_of
from processors.outcomes.resolve import resolve
from processors.policy import Policy
from schemas.codec import FRAME, MAX_RECORD_BYTES, Codec, canonical
from schemas.errors import BadRecord, Malformed, UnknownSchema, Unreachable
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    Event,
    ParkedRequest,
    StudentPromptUploaded,
)
from schemas.judging_events import CJBatchJudged, Grading
from schemas.released_schemas import released
from tests.contract.schemas.samples import SAMPLES
from tests.support import judging_builders
from tests.support.builders import (
    COORDINATES,
    READY,
    REQUEST_AT,
    UPLOADS,
    avro_fields,
    context_after,
    contexts_of_assignment,
    contexts_of_course,
    damaged,
    handwritten,
    instructions_deleted,
    prompt_uploaded,
    requested,
    requests,
    uploads,
)

CODEC = Codec()
LATEST = {schema.name: schema.version for schema in released()}  # ascending versions
FULL = context_after(*READY)
PREPARED = outcome_of(requested(), REQUEST_AT, resolve(requested(), FULL, Policy()))
UNRESOLVED = outcome_of(requested(), REQUEST_AT, resolve(requested(), None, Policy()))
PARKED = ParkedRequest(
    request_at=REQUEST_AT,
    scope_key="assignment:a1",
    missing=("student_prompt",),
    appended_at_ms=1,
    deadline_at_ms=2,
    request_key=b"batch-1",
    request=CODEC.encode(requested()),
)
ONE_OF_EACH: tuple[Event, ...] = (
    *UPLOADS,
    FULL,
    requested(),
    PREPARED,
    UNRESOLVED,
    PARKED,
    *judging_builders.ONE_OF_EACH,
)
CONTEXTS = contexts_of_assignment("a1") | contexts_of_course("ENG5")


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event that cjstream may write."""
    kind = draw(st.sampled_from(("upload", "request", "context", "outcome", "parked", "judging")))
    if kind == "upload":
        return draw(uploads())
    if kind == "judging":
        return draw(judging_builders.judging_events())
    if kind == "context":
        return draw(CONTEXTS.filter(lambda context: context is not None))  # type: ignore[return-value]
    request = draw(requests(st.none() | st.just("a1"), st.just("ENG5")))
    if kind == "request":
        return request
    if kind == "parked":
        return ParkedRequest(
            request_at=draw(COORDINATES),
            scope_key="assignment:a1",
            missing=tuple(draw(st.lists(st.sampled_from(["instructions", "judge_rubric"])))),
            appended_at_ms=draw(st.integers(0, 2**45)),
            deadline_at_ms=draw(st.integers(0, 2**45)),
            request_key=draw(st.none() | st.binary(max_size=20)),
            request=draw(st.binary(max_size=50)),
        )
    policy = draw(st.sampled_from([Policy(), Policy(required=(), guests_allowed=False)]))
    return outcome_of(request, draw(COORDINATES), resolve(request, draw(CONTEXTS), policy))


def judged_with_sigma(sigma: float) -> CJBatchJudged:
    """A result whose grades have this deviation."""
    grading = Grading(status="graded", flags=(), sigma=sigma, thresholds=())
    return judging_builders.batch_judged(grading=grading)


def refusal_of(payload: bytes) -> str:
    """The reason why the bytes are refused; empty if they are not."""
    try:
        CODEC.decode(payload)
    except BadRecord as fault:
        return str(fault)
    return ""


def decoded_or_refused(payload: bytes) -> Event | None:
    """The decoded event, None for a BadRecord; any other exception fails the test."""
    try:
        return CODEC.decode(payload)
    except BadRecord:
        return None


@given(events())
def test_an_encoded_event_decodes_to_itself(event: Event) -> None:
    assert CODEC.decode(CODEC.encode(event)) == event


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_each_event_decodes_as_its_own_class(event: Event) -> None:
    assert CODEC.decode_as(type(event), CODEC.encode(event)) == event


@given(st.data(), st.sampled_from(ONE_OF_EACH))
@settings(max_examples=6 * settings().max_examples)
def test_damaged_bytes_raise_nothing_but_bad_record(data: st.DataObject, event: Event) -> None:
    decoded_or_refused(data.draw(damaged(CODEC.encode(event))))


@given(st.sampled_from(ONE_OF_EACH), st.binary(max_size=60))
def test_random_bodies_raise_nothing_but_bad_record(event: Event, body: bytes) -> None:
    decoded_or_refused(CODEC.frame_of(type(event)) + body)


@given(st.binary(max_size=60))
def test_random_bytes_are_refused(payload: bytes) -> None:
    assert decoded_or_refused(payload) is None


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_every_truncation_is_refused(event: Event) -> None:
    whole = CODEC.encode(event)
    assert [n for n in range(len(whole)) if decoded_or_refused(whole[:n]) is not None] == []


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("junk", [b"\x00", b"\x02", b"junk"])
def test_bytes_left_over_are_refused(event: Event, junk: bytes) -> None:
    with pytest.raises(Malformed, match=f"{len(junk)} bytes left over"):
        CODEC.decode(CODEC.encode(event) + junk)


@pytest.mark.parametrize("padding", [1, 2, 4])
@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("with_block_sizes", [False, True])
def test_a_legal_encoding_that_is_not_canonical_is_decoded(
    padding: int, blocks: int, with_block_sizes: bool
) -> None:
    payload = handwritten(
        requested(), padding=padding, blocks=blocks, with_block_sizes=with_block_sizes
    )
    assert CODEC.decode(payload) == requested()


def test_a_tombstone_is_not_an_event() -> None:
    with pytest.raises(Malformed, match="tombstone"):
        CODEC.decode(None)


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x00\x3b\x9a\xca", b"\x01;\x9a\xca\x08"])
def test_bytes_without_framing_are_refused(payload: bytes) -> None:
    with pytest.raises(Malformed, match=f"{len(payload)} bytes without Confluent framing"):
        CODEC.decode(payload)


@pytest.mark.parametrize("schema_id", [0, 1, 1_000_000_000, 2_000_000_000, 2**32 - 1])
def test_an_unknown_schema_id_raises_unknown_schema(schema_id: int) -> None:
    with pytest.raises(UnknownSchema, match=str(schema_id)):
        CODEC.decode(FRAME.pack(0, schema_id) + b"\x00")


def test_an_event_of_another_class_is_refused() -> None:
    with pytest.raises(Malformed, match="a StudentPromptUploaded where CJAssessmentRequested"):
        CODEC.decode_as(CJAssessmentRequested, CODEC.encode(prompt_uploaded()))


def test_a_record_of_more_than_two_mebibytes_is_refused() -> None:
    with pytest.raises(Malformed, match=f"{MAX_RECORD_BYTES + 1} bytes, allowed"):
        CODEC.decode(bytes(MAX_RECORD_BYTES + 1))


def test_a_row_of_our_own_table_may_exceed_the_field_limits() -> None:
    row = AssignmentContext(scope_key="course:" + "x" * 300, fold_version=1)
    assert CODEC.decode(CODEC.encode(row)) == row


def test_a_surrogate_is_refused_by_decode() -> None:
    payload = CODEC.encode(requested(batch_id="xyz")).replace(b"xyz", b"\xed\xa0\x80")
    with pytest.raises(Malformed, match="UnicodeDecodeError"):
        CODEC.decode(payload)


INVALID_LONGS = {
    "more than 64 bits": b"\x8a" + b"\x80" * 8 + b"\x02",
    "eleven bytes": b"\x8a" + b"\x80" * 9 + b"\x02",
    "eleven bytes, padded": b"\x8a" + b"\x80" * 9 + b"\x00",
    "nineteen bytes": b"\x8a" + b"\x80" * 17 + b"\x01",
}


@pytest.mark.parametrize("version", INVALID_LONGS.values(), ids=INVALID_LONGS.keys())
def test_a_number_beyond_64_bits_is_refused_and_never_wraps(version: bytes) -> None:
    whole = CODEC.encode(prompt_uploaded(version=5))
    payload = whole.replace(b"a1\x0a", b"a1" + version)
    assert payload != whole
    assert decoded_or_refused(payload) is None


def test_an_invalid_boolean_is_refused() -> None:
    whole = CODEC.encode(instructions_deleted())
    assert decoded_or_refused(whole[:-1] + b"\x07") is None


SECRET = "Pupils' own words: ÅÄÖ"


@given(st.data())
def test_no_error_message_repeats_text_of_the_payload(data: st.DataObject) -> None:
    event = data.draw(
        st.sampled_from(
            [
                requested(source_service=SECRET, llm_config_overrides=SECRET),
                prompt_uploaded(actor=SECRET, media_type=SECRET),
            ]
        )
    )
    broken = data.draw(damaged(CODEC.encode(event)))  # type: ignore[arg-type]
    assert "words" not in refusal_of(broken)


def test_an_encoding_starts_with_the_frame_of_its_class() -> None:
    frame = CODEC.frame_of(StudentPromptUploaded, 1)
    assert frame == b"\x00" + (1_000_000_003).to_bytes(4, "big")
    assert CODEC.encode(prompt_uploaded(), 1).startswith(frame)
    assert CODEC.encode(prompt_uploaded()).startswith(CODEC.frame_of(StudentPromptUploaded))


REGISTRY_IDS = {
    (schema.name, schema.version): number for number, schema in enumerate(released(), 1)
}


def test_encoded_events_carry_the_registrys_ids_and_fixed_ids_stay_readable() -> None:
    codec = Codec(ids=REGISTRY_IDS)
    for event in SAMPLES.values():
        payload = codec.encode(event)
        name = type(event).__name__
        assert FRAME.unpack_from(payload)[1] == REGISTRY_IDS[name, LATEST[name]]
        assert codec.decode(payload) == codec.decode(CODEC.encode(event)) == event
        with pytest.raises(UnknownSchema):
            CODEC.decode(payload)


def test_requests_with_either_id_take_the_fast_path_to_the_same_outcome() -> None:
    codec = Codec(ids=REGISTRY_IDS)
    builder = OutcomeBuilder(codec, Policy(), {"assignment:a1": FULL}.get)
    fixed, registered = CODEC.encode(requested()), codec.encode(requested())
    assert builder.spliced(fixed, REQUEST_AT) == builder.spliced(registered, REQUEST_AT)
    spliced = builder.spliced(registered, REQUEST_AT)
    assert spliced == builder.encoded(fixed, REQUEST_AT)
    assert spliced is not None
    schema_id = REGISTRY_IDS["CJBatchPrepared", LATEST["CJBatchPrepared"]]
    assert FRAME.unpack_from(spliced.value)[1] == schema_id


def test_an_unknown_id_is_looked_up_once_and_accepted_if_its_schema_is_equivalent() -> None:
    looked_up = list[int]()
    (request,) = (schema for schema in released() if schema.schema_id == 1_000_000_008)
    form = canonical(orjson.dumps({**request.schema, "doc": "another text"}))

    def form_of(schema_id: int) -> str | None:
        looked_up.append(schema_id)
        return form if schema_id == 77 else canonical(b'"string"')

    codec = Codec(form_of=form_of)
    payload = FRAME.pack(0, 77) + CODEC.encode(requested(), 1)[FRAME.size :]
    assert codec.decode(payload) == codec.decode(payload) == requested()
    assert codec.version_of(CJAssessmentRequested, payload) == 1
    with pytest.raises(UnknownSchema):
        codec.decode(FRAME.pack(0, 78) + payload[FRAME.size :])
    assert looked_up == [77, 78]


HIGHEST_ID = max(schema.schema_id for schema in released())


@pytest.mark.parametrize(
    ("schema_id", "may_be_later"),
    [
        (0, False),
        (7, False),
        (HIGHEST_ID + 1, True),
        (HIGHEST_ID + 1000, True),
        (HIGHEST_ID + 1001, False),
        (2**32 - 1, False),
    ],
)
def test_an_unknown_id_may_be_of_a_later_release_only_if_it_is_one_of_the_next(
    schema_id: int, may_be_later: bool
) -> None:
    with pytest.raises(UnknownSchema) as refused:
        CODEC.decode(FRAME.pack(0, schema_id) + b"anything")
    assert refused.value.may_be_later is may_be_later


@pytest.mark.parametrize(
    ("schema", "may_be_later"),
    [
        ({"type": "record", "name": "cjstream.JudgeRubricUploaded", "fields": []}, True),
        ({"type": "record", "name": "other.JudgeRubricUploaded", "fields": []}, False),
        ({"type": "record", "name": "cjstream.NeverReleased", "fields": []}, False),
        ("string", False),
        (["null", "string"], False),
    ],
)
def test_a_registrys_id_may_be_of_a_later_release_if_its_record_is_one_of_ours(
    schema: object, may_be_later: bool
) -> None:
    form = canonical(orjson.dumps(schema))
    codec = Codec(form_of=lambda _schema_id: form)
    for schema_id in (7, HIGHEST_ID + 1):
        with pytest.raises(UnknownSchema) as refused:
            codec.decode(FRAME.pack(0, schema_id) + b"anything")
        assert refused.value.may_be_later is may_be_later


def test_an_id_that_cannot_be_looked_up_now_may_be_of_a_later_release() -> None:
    def unreachable(_schema_id: int) -> str | None:
        raise Unreachable("the registry")

    with pytest.raises(UnknownSchema) as refused:
        Codec(form_of=unreachable).decode(FRAME.pack(0, 7) + b"anything")
    assert refused.value.may_be_later


PARSED = {one.name: fastavro.parse_schema(dict(one.schema), named_schemas={}) for one in released()}


@given(events())
def test_events_are_encoded_to_the_same_bytes_as_by_fastavro(event: Event) -> None:
    body = BytesIO()
    fastavro.schemaless_writer(body, PARSED[type(event).__name__], avro_fields(event), strict=True)
    assert CODEC.encode(event)[FRAME.size :] == body.getvalue()


@given(events())
def test_events_are_decoded_to_the_same_values_as_by_fastavro(event: Event) -> None:
    payload = CODEC.encode(event)
    values = fastavro.schemaless_reader(
        BytesIO(payload[FRAME.size :]), PARSED[type(event).__name__], None
    )
    assert orjson.dumps(avro_fields(CODEC.decode(payload)), default=list) == orjson.dumps(
        values, default=list
    )


def test_a_number_of_more_than_64_bits_is_not_encoded() -> None:
    with pytest.raises(OverflowError):
        CODEC.encode(prompt_uploaded(version=2**63))


NOT_FINITE = [math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_double_that_is_not_finite_is_not_encoded(value: float) -> None:
    with pytest.raises(OverflowError, match="not finite"):
        CODEC.encode(judged_with_sigma(value))


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_double_that_is_not_finite_is_refused(value: float) -> None:
    payload = CODEC.encode(judged_with_sigma(0.125)).replace(
        struct.pack("<d", 0.125), struct.pack("<d", value)
    )
    assert refusal_of(payload).endswith("a double that is not finite")


@pytest.mark.parametrize(("name", "version"), INVALID_LONGS.items())
def test_the_refusal_of_an_invalid_number_names_its_structural_fault(
    name: str, version: bytes
) -> None:
    payload = CODEC.encode(prompt_uploaded(version=5)).replace(b"a1\x0a", b"a1" + version)
    reason = "more than 64 bits" if name == "more than 64 bits" else "more than ten bytes"
    assert reason in refusal_of(payload)


@pytest.mark.parametrize("number", [-(2**31), -65, -64, -1, 63, 64, 2**31 - 1])
def test_numbers_of_either_sign_are_encoded_as_by_fastavro(number: int) -> None:
    row = AssignmentContext(scope_key="assignment:a1", fold_version=number)
    body = BytesIO()
    fastavro.schemaless_writer(body, PARSED["AssignmentContext"], avro_fields(row), strict=True)
    assert CODEC.encode(row)[FRAME.size :] == body.getvalue()
    assert CODEC.decode(CODEC.encode(row)) == row
