"""A worker process turns uploads and requests into outcomes, which other Avro and Kafka clients can read."""

from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from avro.io import BinaryDecoder, DatumReader
from avro.schema import make_avsc_object

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.settings import Settings
from schemas.codec import Codec
from schemas.events import AssignmentContext
from tests.faults.asking import Progress, all_have_one_outcome
from tests.faults.load import DAMAGED, append, record_of, request_record, send
from tests.faults.reading import Read, read_all
from tests.faults.running import StartWorker
from tests.support.builders import (
    instructions_deleted,
    instructions_uploaded,
    prompt_uploaded,
    requested,
    rubric_uploaded,
    sha256_of,
)
from tests.support.until import until
from tools.broker import Broker

SCHEMAS = Path(__file__).parents[2] / "schemas"
CODECS = (
    "zstd",
    *(pytest.param(name, marks=pytest.mark.thorough) for name in ("none", "gzip", "snappy", "lz4")),
)
COURSE = instructions_uploaded("Course", assignment_id=None, course_id="ENG5", event_id="c-1")
UPLOADS = (
    instructions_uploaded("Old"),
    instructions_uploaded("New", version=2, event_id="i-2"),
    prompt_uploaded("Prompt"),
    rubric_uploaded("Rubric"),
    instructions_uploaded("Half", assignment_id="half", event_id="h-1"),
    instructions_uploaded("Gone", assignment_id="gone", event_id="g-1"),
    prompt_uploaded("Gone", assignment_id="gone", event_id="g-2"),
    instructions_deleted(assignment_id="gone", event_id="g-3"),
    COURSE,
)
ROWS: dict[str, dict[str, Any]] = {
    "assignment": {},
    "explicit": {"student_prompt_ref": "own"},
    "half": {"assignment_id": "half"},
    "half-explicit": {"assignment_id": "half", "student_prompt_ref": "own"},
    "unknown": {"assignment_id": "nobody-knows"},
    "gone": {"assignment_id": "gone"},
    "course": {"assignment_id": None},
    "course-explicit": {"assignment_id": None, "student_prompt_ref": "own"},
    "guest": {"assignment_id": None, "course_code": "GUEST"},
}
BOTH_MISSING = ["instructions", "student_prompt"]


def decode_with_avro(record: Read) -> dict[str, Any]:
    """The record's fields, decoded by the `avro` package with the schema that the record's frame names."""
    assert record.value is not None
    body = BytesIO(record.value)
    assert body.read(1) == b"\0"
    number = int.from_bytes(body.read(4), "big")
    ids = orjson.loads((SCHEMAS / "schema_ids.json").read_bytes())
    (name,) = (name for name, schema_id in ids.items() if schema_id == number)
    schema = make_avsc_object(orjson.loads((SCHEMAS / name).read_bytes()))
    fields = DatumReader(schema).read(BinaryDecoder(body))
    assert isinstance(fields, dict)
    assert not body.read()
    return fields


def outcomes(settings: Settings, topic: str) -> dict[str, dict[str, Any]]:
    """The fields of the records of an outcome topic, by batch id."""
    records = read_all(settings.bootstrap_servers, topic, settings.partitions)
    decoded = map(decode_with_avro, records)
    return {fields["request"]["batch_id"]: fields for fields in decoded}


def test_every_request_gets_the_outcome_of_the_resolution_table(
    broker: Broker, settings: Settings, start_worker: StartWorker
) -> None:
    send(settings, *UPLOADS)
    records = [record_of(settings, requested(batch_id=name, **row)) for name, row in ROWS.items()]
    append(settings, [*records, *(request_record(settings, value, "bad") for value in DAMAGED)])
    worker = start_worker()
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)

    prepared = outcomes(settings, settings.topics.batches.name)
    unresolved = outcomes(settings, settings.topics.unresolved.name)
    metadata = {name: fields["processing_metadata"] for name, fields in prepared.items()}
    assert {name: fields["context_source"] for name, fields in metadata.items()} == {
        "assignment": "assignment",
        "explicit": "assignment",
        "half-explicit": "assignment",
        "course": "course",
        "course-explicit": "course",
        "guest": "guest",
    }
    assert {name: fields["prompt_source"] for name, fields in metadata.items()} == {
        "assignment": "assignment",
        "explicit": "request",
        "half-explicit": "request",
        "course": "none",
        "course-explicit": "request",
        "guest": "none",
    }
    assert {name: fields["missing"] for name, fields in unresolved.items()} == {
        "half": ["student_prompt"],
        "unknown": BOTH_MISSING,
        "gone": ["instructions"],
    }
    complete = metadata["assignment"]
    assert complete["instructions_storage_id"] == sha256_of("New")
    assert complete["student_prompt_storage_id"] == sha256_of("Prompt")
    assert complete["judge_rubric_storage_id"] == sha256_of("Rubric")
    assert metadata["explicit"]["student_prompt_storage_id"] == "own"
    assert metadata["course"]["instructions_storage_id"] == COURSE.sha256
    assert prepared["assignment"]["provenance"]["instructions"]["version"] == 2

    assert all_have_one_outcome(settings).counts["cj.requests.dlq.v1"] == len(DAMAGED)
    lines = java_reads(broker, settings)
    assert len(lines) == len(prepared)
    assert sum(sha256_of("New") in line for line in lines) == 2


def java_reads(broker: Broker, settings: Settings) -> list[str]:
    """The lines that Kafka's console consumer prints, one for each committed batch."""
    escaped = "org.apache.kafka.common.serialization.BytesDeserializer"  # prints only ASCII
    finished = broker.java_tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", broker.bootstrap, "--topic", settings.topics.batches.name),
        *("--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "8000"),
        *("--formatter-property", f"value.deserializer={escaped}"),
    )
    return finished.stdout.splitlines()


@pytest.mark.thorough
@pytest.mark.parametrize("compression", CODECS)
def test_uploads_of_any_compression_reach_the_batches_and_the_context_topic(
    settings: Settings, start_worker: StartWorker, compression: str
) -> None:
    producer = plain_producer(settings, **{"compression.type": compression})
    deliver(producer, [record_of(settings, event) for event in UPLOADS[:3]])
    send(settings, requested())
    worker = start_worker()
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)
    assert outcomes(settings, settings.topics.batches.name).keys() == {"batch-1"}

    def is_published() -> bool:
        records = read_all(
            settings.bootstrap_servers, settings.topics.context.name, settings.partitions
        )
        rows = [Codec().decode_as(AssignmentContext, row.value) for row in records[-1:]]
        return any(row.instructions and row.instructions.version == 2 for row in rows)

    until(is_published)
