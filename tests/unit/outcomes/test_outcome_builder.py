"""Outcomes: their contents, their Avro encoding as another reader reads it, and that they are deterministic."""

import io
from typing import Any

import avro.io
import avro.schema
import orjson
import pytest

from processors.outcomes.encoding import event_id_of
from processors.outcomes.outcome_builder import OutcomeBuilder, outcome_of
from processors.outcomes.recipes import RECIPE, RECIPES
from processors.outcomes.resolve import resolve
from processors.policy import Policy
from schemas.codec import FRAME, Codec
from schemas.coordinates import Coordinates
from schemas.errors import Malformed, UnknownSchema
from schemas.events import (
    AssignmentContext,
    CJAssessmentRequested,
    CJBatchPrepared,
    CJBatchUnresolved,
    ProcessingMetadata,
    Provenance,
    UploadUsed,
)
from schemas.released_schemas import released
from schemas.topics import MAX_REQUEST_BYTES
from tests.contract.schemas.samples import CONTEXT, sample_bytes
from tests.support.builders import (
    READY,
    REQUEST_AT,
    context_after,
    essays,
    handwritten,
    instructions_uploaded,
    prompt_deleted,
    prompt_uploaded,
    requested,
    sha256_of,
)

CODEC = Codec()
FULL = context_after(*READY)
COURSE = context_after(instructions_uploaded(assignment_id=None, course_id="ENG5"))
TABLE = {"assignment:a1": FULL, "course:ENG5": COURSE}
INSTRUCTIONS = UploadUsed(
    source=Coordinates("assessment.instructions.v1", 0, 0),
    version=1,
    event_id="i-1",
    sha256=sha256_of("Judge the argument."),
)
PROMPT = UploadUsed(
    source=Coordinates("assessment.student-prompts.v1", 0, 1),
    version=1,
    event_id="p-1",
    sha256=sha256_of("Should homework be banned?"),
)
RUBRIC = UploadUsed(
    source=Coordinates("assessment.judge-rubrics.v1", 0, 2),
    version=1,
    event_id="r-1",
    sha256=sha256_of("Weigh structure twice."),
)


def builder(table: dict[str, AssignmentContext] | None = None) -> OutcomeBuilder:
    return OutcomeBuilder(CODEC, Policy(), (TABLE if table is None else table).get)


def outcome(
    request: CJAssessmentRequested, context: AssignmentContext | None
) -> CJBatchPrepared | CJBatchUnresolved:
    return outcome_of(request, REQUEST_AT, resolve(request, context, Policy()))


def read_independently(payload: bytes) -> Any:
    """The record as the avro package reads it, with the schema of the id in its frame."""
    (schema,) = (
        release.schema
        for release in released()
        if release.schema_id == FRAME.unpack_from(payload)[1]
    )
    body = io.BytesIO(payload[FRAME.size :])
    reader = avro.io.DatumReader(avro.schema.parse(orjson.dumps(schema).decode()))
    values = reader.read(avro.io.BinaryDecoder(body))
    assert body.read() == b""
    return values


def test_a_prepared_batch_names_its_context_and_the_uploads_used() -> None:
    assert outcome(requested(), FULL) == CJBatchPrepared(
        event_id="cj.requests.v1/3@41",
        recipe=RECIPE,
        provenance=Provenance(
            request=REQUEST_AT,
            instructions=INSTRUCTIONS,
            student_prompt=PROMPT,
            judge_rubric=RUBRIC,
        ),
        processing_metadata=ProcessingMetadata(
            context_source="assignment",
            instructions_storage_id=INSTRUCTIONS.sha256,
            judge_rubric_storage_id=RUBRIC.sha256,
            grade_scale="swedish_8_anchor",
            context_origin="research_experiment",
            prompt_source="assignment",
            student_prompt_storage_id=PROMPT.sha256,
        ),
        request=requested(),
    )


def test_an_explicit_prompt_replaces_the_prompt_of_the_assignment() -> None:
    prepared = outcome(requested(student_prompt_ref="own"), FULL)
    assert isinstance(prepared, CJBatchPrepared)
    assert prepared.processing_metadata.prompt_source == "request"
    assert prepared.processing_metadata.student_prompt_storage_id == "own"
    assert prepared.provenance == Provenance(
        request=REQUEST_AT, instructions=INSTRUCTIONS, judge_rubric=RUBRIC
    )


def test_a_course_has_instructions_and_no_prompt() -> None:
    prepared = outcome(requested(assignment_id=None), COURSE)
    assert isinstance(prepared, CJBatchPrepared)
    assert prepared.processing_metadata == ProcessingMetadata(
        context_source="course",
        instructions_storage_id=INSTRUCTIONS.sha256,
        grade_scale="swedish_8_anchor",
        context_origin="research_experiment",
        prompt_source="none",
    )


def test_a_guest_uses_no_upload() -> None:
    prepared = outcome(requested(assignment_id=None), None)
    assert isinstance(prepared, CJBatchPrepared)
    assert prepared.provenance == Provenance(request=REQUEST_AT)
    assert prepared.processing_metadata == ProcessingMetadata(
        context_source="guest", prompt_source="none"
    )


def test_an_unresolved_batch_names_the_missing_roles_and_the_uploads_used() -> None:
    context = context_after(instructions_uploaded(), prompt_uploaded(), prompt_deleted())
    assert outcome(requested(), context) == CJBatchUnresolved(
        event_id="cj.requests.v1/3@41",
        recipe=RECIPE,
        provenance=Provenance(request=REQUEST_AT, instructions=INSTRUCTIONS),
        scope_key="assignment:a1",
        missing=("student_prompt",),
        request=requested(),
    )


def test_the_event_id_is_the_coordinates_of_the_request() -> None:
    ids = {
        event_id_of(Coordinates(topic, partition, offset))
        for topic in ("one", "two")
        for partition in (0, 1)
        for offset in (0, 1)
    }
    assert len(ids) == 8
    assert event_id_of(Coordinates("cj.requests.v1", 2, 7)) == "cj.requests.v1/2@7"


REQUESTS = {
    "assignment": requested(batch_id="bätch 🎓"),
    "explicit prompt": requested(student_prompt_ref="own"),
    "unresolved": requested(assignment_id="a9", llm_config_overrides='{"temperature": 0}'),
    "course": requested(assignment_id=None),
    "guest": requested(assignment_id=None, course_code="SV2", essays=essays(30)),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_another_avro_reader_reads_the_outcome(request_: CJAssessmentRequested) -> None:
    built = builder().build(CODEC.encode(request_), REQUEST_AT)
    event = CODEC.decode(built.value)
    record = read_independently(built.value)
    assert record["event_id"] == "cj.requests.v1/3@41"
    assert record["request"]["batch_id"] == request_.batch_id
    assert [essay["essay_id"] for essay in record["request"]["essays"]] == [
        essay.essay_id for essay in request_.essays
    ]
    assert record == orjson.loads(orjson.dumps(event))


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_the_same_request_against_the_same_context_gives_the_same_bytes(
    request_: CJAssessmentRequested,
) -> None:
    payload = CODEC.encode(request_)
    first = builder().build(payload, REQUEST_AT)
    second = OutcomeBuilder(Codec(), Policy(), dict(TABLE).get).build(payload, REQUEST_AT)
    slow = builder().encoded(payload, REQUEST_AT)
    assert first == second == slow


def test_another_offset_gives_another_outcome() -> None:
    payload, same_builder = CODEC.encode(requested()), builder()
    assert same_builder.build(payload, REQUEST_AT) != same_builder.build(
        payload, Coordinates("cj.requests.v1", 3, 42)
    )


def test_an_outcome_ends_with_the_bytes_of_its_request() -> None:
    payload = CODEC.encode(requested(student_prompt_ref="own", due_at_ms=1_900_000_000_007))
    assert builder().build(payload, REQUEST_AT).value.endswith(payload[FRAME.size :])


def test_an_outcome_contains_the_whole_request() -> None:
    request = requested(due_at_ms=1_700_000_900_000)
    event = CODEC.decode(builder().build(CODEC.encode(request), REQUEST_AT).value)
    assert isinstance(event, CJBatchPrepared)
    assert event.request == request


@pytest.mark.parametrize("name", ["CJBatchPrepared", "CJBatchUnresolved"])
def test_a_released_recipe_builds_the_bytes_that_its_release_wrote(name: str) -> None:
    for recipe in RECIPES.values():
        released_bytes = sample_bytes(f"{name}.v{recipe.outcome}")
        event = CODEC.decode(released_bytes)
        assert isinstance(event, CJBatchPrepared | CJBatchUnresolved)
        rebuilt = OutcomeBuilder(CODEC, Policy(), {"assignment:a1": CONTEXT}.get, event.recipe)
        request = CODEC.encode(event.request, recipe.request)
        assert rebuilt.spliced(request, REQUEST_AT) == rebuilt.encoded(request, REQUEST_AT)
        assert rebuilt.build(request, REQUEST_AT).value == released_bytes


def test_an_older_recipe_refuses_a_request_with_newer_fields() -> None:
    old_builder = OutcomeBuilder(CODEC, Policy(), TABLE.get, recipe=1)
    with pytest.raises(Malformed, match=r"CJBatchPrepared\.v1 does not hold all"):
        old_builder.build(CODEC.encode(requested(due_at_ms=1_900_000_000_007)), REQUEST_AT)


def test_a_request_in_another_encoding_gets_the_canonical_outcome() -> None:
    not_canonical = handwritten(requested(), padding=3, with_block_sizes=True)
    canonical = CODEC.encode(requested())
    assert builder().build(not_canonical, REQUEST_AT) == builder().build(canonical, REQUEST_AT)


def test_a_request_of_more_than_640_kibibytes_is_too_large() -> None:
    with pytest.raises(Malformed, match=f"too large: {MAX_REQUEST_BYTES + 1} bytes"):
        builder().build(bytes(MAX_REQUEST_BYTES + 1), REQUEST_AT)


@pytest.mark.parametrize("payload", [None, b"", b"junk", CODEC.encode(prompt_uploaded())])
def test_bytes_that_are_not_a_request_are_malformed(payload: bytes | None) -> None:
    with pytest.raises(Malformed):
        builder().build(payload, REQUEST_AT)


def test_a_request_of_a_later_release_has_an_unknown_schema() -> None:
    with pytest.raises(UnknownSchema):
        builder().build(FRAME.pack(0, 1_000_000_999) + b"\x00", REQUEST_AT)
