"""A worker with a real schema registry: records have the registry's ids, and its Java deserializer reads them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import httpx
import orjson
import pytest

from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.codec import FRAME, Codec
from schemas.coordinates import Coordinates
from schemas.errors import Unreachable
from schemas.released_schemas import released
from tests.end_to_end.apicurio import CONFLUENT, OWN, apicurio
from tests.faults.asking import Progress
from tests.faults.load import DAMAGED, append, request_record, send
from tests.faults.reading import Read, read_all
from tests.faults.running import StartWorker
from tests.support.builders import requested
from tests.support.run_command import run_json
from tools.broker import Broker

UPLOADS = [
    {
        "type": "instructions",
        "assignment_id": "a1",
        "text": "Judge the argument.",
        "grade_scale": "swedish_8_anchor",
    },
    {"type": "student_prompt", "assignment_id": "a1", "text": "Argue for it.", "language": "en"},
]
ESSAYS = [{"essay_id": f"e-{n}", "text_storage_id": f"t-{n}"} for n in range(2)]
DUE = 1_900_000_000_000
SENT = 20
FIXED = {schema.schema_id for schema in released()}
# a registry takes half a minute to start, longer on a busy machine
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """The address of a real registry; skips the tests if none can be started."""
    with ExitStack() as running:
        try:
            url = running.enter_context(apicurio(Path(__file__).parents[2] / ".cjstream"))
        except Unreachable as fault:
            pytest.skip(f"no real schema registry: {fault}")
        yield url


@pytest.fixture
def registered(settings: Settings, registry: str) -> Settings:
    """The test's installation, configured to use the registry."""
    return settings.model_copy(update={"schema_registry_url": f"{registry}{CONFLUENT}"})


class Decoded:
    """Decodes records with the registry's schemas and the `avro` package."""

    def __init__(self, registry: str) -> None:
        self._url = f"{registry}{CONFLUENT}/schemas/ids"
        self._readers: dict[int, Any] = {}

    def __call__(self, record: Read) -> tuple[str, Any]:
        """The record's name and fields."""
        assert record.value is not None
        _, schema_id = FRAME.unpack_from(record.value)
        assert schema_id not in FIXED
        if schema_id not in self._readers:
            schema = httpx.get(f"{self._url}/{schema_id}", timeout=30).json()["schema"]
            self._readers[schema_id] = avro.io.DatumReader(avro.schema.parse(schema))
        reader = self._readers[schema_id]
        body = BytesIO(record.value[FRAME.size :])
        fields = reader.read(avro.io.BinaryDecoder(body))
        assert not body.read()
        return reader.writers_schema.name, fields


@pytest.fixture
def read_topic(settings: Settings) -> Callable[[str], list[Read]]:
    """A function that returns every committed record of a topic."""
    return lambda topic: read_all(settings.bootstrap_servers, topic, settings.partitions)


def run_command(settings: Settings, *command: str) -> Any:
    """The JSON document of a command that must succeed."""
    exit_code, document, stderr = run_json(settings, *command)
    assert exit_code == 0, stderr
    return document


def encode_with_new_id(registry: str, topic: str, **changes: Any) -> bytes:
    """A request of a producer that registers the schema itself with another `doc`: a new id for an equal schema."""
    (latest,) = (
        schema
        for schema in released()
        if (schema.name, schema.version) == ("CJAssessmentRequested", 2)
    )
    text = json.dumps({**latest.schema, "doc": "a request"})
    subject = f"{registry}{CONFLUENT}/subjects/{topic}-value/versions"
    schema_id = httpx.post(subject, json={"schema": text}, timeout=30).json()["id"]
    body = Codec().encode(requested(**changes))[FRAME.size :]
    return FRAME.pack(0, schema_id) + body


def test_records_have_the_registrys_ids_and_java_reads_the_batches(
    broker: Broker,
    settings: Settings,
    registered: Settings,
    registry: str,
    read_topic: Callable[[str], list[Read]],
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    run_command(registered, "topics", "apply")
    uploads, request_lines = tmp_path / "uploads.jsonl", tmp_path / "requests.jsonl"
    uploads.write_bytes(b"\n".join(map(orjson.dumps, UPLOADS)))
    plain = {"course_code": "ENG5", "language": "en", "essays": ESSAYS, "assignment_id": "a1"}
    request_lines.write_bytes(
        b"\n".join(
            orjson.dumps({**plain, "batch_id": f"b-{n}", "due_at_ms": DUE + n}) for n in range(SENT)
        )
    )
    run_command(registered, "uploads", "send", str(uploads))
    run_command(registered, "requests", "send", str(request_lines))
    send(settings, requested(batch_id="fixed id"), requested(batch_id="gone", assignment_id="a9"))
    append(settings, [request_record(settings, value, "damaged") for value in DAMAGED])
    worker = start_worker(schema_registry_url=registered.schema_registry_url)
    worker.wait_until_it_runs(seconds=90)
    topics, decoded = settings.topics, Decoded(registry)
    other = encode_with_new_id(registry, topics.requests.name, batch_id="another id", due_at_ms=DUE)
    append(settings, [request_record(settings, other, "another id")])
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)

    names = {topics.batches.name: "CJBatchPrepared", topics.unresolved.name: "CJBatchUnresolved"}
    outcomes: Counter[Coordinates] = Counter()
    due = {}
    for topic, name in names.items():
        for event_name, fields in map(decoded, read_topic(topic)):
            assert event_name == name
            outcomes[Coordinates(**fields["provenance"]["request"])] += 1
            due[fields["request"]["batch_id"]] = fields["request"]["due_at_ms"]
    letters = read_topic(topics.requests_dlq.name)
    requests = {Coordinates(*record.at) for record in read_topic(topics.requests.name)}
    assert set(outcomes) < requests
    assert set(outcomes.values()) == {1}
    assert len(outcomes) + len(letters) == len(requests) == SENT + 3 + len(DAMAGED)
    assert due == {
        **{f"b-{n}": DUE + n for n in range(SENT)},
        **{"fixed id": None, "gone": None, "another id": DUE},
    }
    for topic_of_events in (topics.instructions, topics.student_prompts, topics.context):
        assert read_topic(topic_of_events.name)
        assert {decoded(record)[0] for record in read_topic(topic_of_events.name)} <= {
            event_class.__name__ for event_class in topic_of_events.carries
        }

    tailed = run_command(registered, "batches", "tail", "--from-beginning")
    assert "b-0" in str(tailed)
    lines = java_reads(broker, settings, registry, len(read_topic(topics.batches.name)))
    seen = {line["request"]["batch_id"]: line["request"]["due_at_ms"] for line in lines}
    assert seen == {name: due_at_ms for name, due_at_ms in due.items() if name != "gone"}


def java_reads(broker: Broker, settings: Settings, registry: str, count: int) -> list[Any]:
    """The documents that Kafka's console consumer prints with the registry's own deserializer."""
    finished = broker.java_tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", broker.bootstrap, "--topic", settings.topics.batches.name),
        *("--from-beginning", "--isolation-level", "read_committed"),
        *("--max-messages", str(count), "--timeout-ms", "60000"),
        "--formatter-property",
        "value.deserializer=io.apicurio.registry.serde.avro.AvroKafkaDeserializer",
        "--formatter-property",
        f"value.deserializer.apicurio.registry.url={registry}{OWN}",
        extra_parts=("serde",),
        timeout_s=180,
    )
    assert finished.returncode == 0, finished.stderr
    return [orjson.loads(line) for line in finished.stdout.splitlines()]


def test_a_second_codec_finds_the_schemas_that_the_first_registered(registered: Settings) -> None:
    first, second = codec_for(registered), codec_for(registered)
    assert first.encode(requested()) == second.encode(requested())
