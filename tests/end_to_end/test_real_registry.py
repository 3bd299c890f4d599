"""With a real schema registry everything works: ids are its own, Java reads the outcomes with its deserializer."""

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
from tests.support.run_command import told
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
FIXED = {one.schema_id for one in released()}
pytestmark = pytest.mark.timeout(
    600
)  # a registry takes half a minute to start, where others work beside it more


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """The address of a real registry; skips, and says why, where there is none to be had."""
    with ExitStack() as running:
        try:
            url = running.enter_context(apicurio(Path(__file__).parents[2] / ".cjstream"))
        except Unreachable as fault:
            pytest.skip(f"no real schema registry: {fault}")
        yield url


@pytest.fixture
def registered(settings: Settings, registry: str) -> Settings:
    """The test's installation, with the registry."""
    return settings.model_copy(update={"schema_registry_url": f"{registry}{CONFLUENT}"})


class Decoded:
    """What records say by the schemas that the registry has, read by the `avro` package."""

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
        said = reader.read(avro.io.BinaryDecoder(body))
        assert not body.read()
        return reader.writers_schema.name, said


@pytest.fixture
def every(settings: Settings) -> Callable[[str], list[Read]]:
    """Every committed record of a topic."""
    return lambda topic: read_all(settings.bootstrap_servers, topic, settings.partitions)


def done(settings: Settings, *command: str) -> Any:
    """The JSON document of a command that does what it should."""
    exit_code, document, said = told(settings, *command)
    assert exit_code == 0, said
    return document


def by_another_id(registry: str, topic: str, **asked: Any) -> bytes:
    """A request by a producer that registers the schema itself, in its own words: another id, the same form."""
    (latest,) = (
        one for one in released() if (one.name, one.version) == ("CJAssessmentRequested", 2)
    )
    schema = json.dumps({**latest.schema, "doc": "a request"})
    subject = f"{registry}{CONFLUENT}/subjects/{topic}-value/versions"
    schema_id = httpx.post(subject, json={"schema": schema}, timeout=30).json()["id"]
    body = Codec().encode(requested(**asked))[FRAME.size :]
    return FRAME.pack(0, schema_id) + body


def test_ids_are_the_registrys_and_java_reads_what_comes_out(
    broker: Broker,
    settings: Settings,
    registered: Settings,
    registry: str,
    every: Callable[[str], list[Read]],
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    done(registered, "topics", "apply")
    given, asked = tmp_path / "uploads.jsonl", tmp_path / "requests.jsonl"
    given.write_bytes(b"\n".join(map(orjson.dumps, UPLOADS)))
    plain = {"course_code": "ENG5", "language": "en", "essays": ESSAYS, "assignment_id": "a1"}
    asked.write_bytes(
        b"\n".join(
            orjson.dumps({**plain, "batch_id": f"b-{n}", "due_at_ms": DUE + n}) for n in range(SENT)
        )
    )
    done(registered, "uploads", "send", str(given))
    done(registered, "requests", "send", str(asked))
    send(settings, requested(batch_id="fixed id"), requested(batch_id="gone", assignment_id="a9"))
    append(settings, [request_record(settings, one, "damaged") for one in DAMAGED])
    worker = start_worker(schema_registry_url=registered.schema_registry_url)
    worker.wait_until_it_runs(seconds=90)
    topics, decoded = settings.topics, Decoded(registry)
    other = by_another_id(registry, topics.requests.name, batch_id="another id", due_at_ms=DUE)
    append(settings, [request_record(settings, other, "another id")])
    with Progress(settings) as progress:
        progress.wait_for_the_end(worker)

    names = {topics.batches.name: "CJBatchPrepared", topics.unresolved.name: "CJBatchUnresolved"}
    outcomes: Counter[Coordinates] = Counter()
    due = {}
    for topic, name in names.items():
        for kind, said in map(decoded, every(topic)):
            assert kind == name
            outcomes[Coordinates(**said["provenance"]["request"])] += 1
            due[said["request"]["batch_id"]] = said["request"]["due_at_ms"]
    letters = every(topics.requests_dlq.name)
    requests = {Coordinates(*record.at) for record in every(topics.requests.name)}
    assert set(outcomes) < requests
    assert set(outcomes.values()) == {1}
    assert len(outcomes) + len(letters) == len(requests) == SENT + 3 + len(DAMAGED)
    assert due == {
        **{f"b-{n}": DUE + n for n in range(SENT)},
        **{"fixed id": None, "gone": None, "another id": DUE},
    }
    for carrying in (topics.instructions, topics.student_prompts, topics.context):
        assert every(carrying.name)
        assert {decoded(record)[0] for record in every(carrying.name)} <= {
            kind.__name__ for kind in carrying.carries
        }

    tailed = done(registered, "batches", "tail", "--from-beginning")
    assert "b-0" in str(tailed)
    lines = java_reads(broker, settings, registry, len(every(topics.batches.name)))
    seen = {line["request"]["batch_id"]: line["request"]["due_at_ms"] for line in lines}
    assert seen == {name: at for name, at in due.items() if name != "gone"}


def java_reads(broker: Broker, settings: Settings, registry: str, count: int) -> list[Any]:
    """What Java's console consumer prints with the registry's own deserializer."""
    ended = broker.java_tool(
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
    assert ended.returncode == 0, ended.stderr
    return [orjson.loads(line) for line in ended.stdout.splitlines()]


def test_what_another_process_registered_is_found_again(registered: Settings) -> None:
    once, again = codec_for(registered), codec_for(registered)
    assert once.encode(requested()) == again.encode(requested())
