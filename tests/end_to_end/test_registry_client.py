"""Confluent's own client works with a bare cjstream: its schemas come from `cjstream api`, a live process."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import httpx
import orjson
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from processors.kafka.clients import plain_producer
from processors.kafka.partitions import partitions_of
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.events import Event
from schemas.topics import Topic
from tests.contract.schemas.samples import SAMPLES
from tests.faults.running import StartWorker
from tests.support.until import until
from tools.broker import free_port

BY_CLASS = {type(event): event for event in SAMPLES.values()}
CODEC = Codec()
API = ("-m", "tools.cli", "api")


@pytest.fixture
def registry(start_worker: StartWorker) -> Iterator[SchemaRegistryClient]:
    """Confluent's client at the registry of the test's installation."""
    port = free_port()
    process = start_worker(command=API, api_port=port, environment="development")

    def answers() -> bool:
        assert process.is_alive, process.log_tail()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    until(answers)
    with SchemaRegistryClient({"url": f"http://127.0.0.1:{port}/registry"}) as client:
        yield client


@pytest.fixture
def carrying(settings: Settings) -> list[Topic]:
    """The topics that carry events: all but the dead letters."""
    return [topic for topic in settings.topics.all if topic.carries]


def appended(settings: Settings, topic: Topic) -> list[LogRecord]:
    """One event of each class of a topic, read back from it."""
    producer = plain_producer(settings)
    for kind in topic.carries:
        deliver(producer, [Record(topic.name, 0, b"key", CODEC.encode(BY_CLASS[kind]))])
    with LogReader(settings, partitions_of([topic.name], settings)) as log:
        retained = log.offset_ranges()
        log.seek({one: low for one, (low, _) in retained.items()})
        return list(log.records_until({one: end for one, (_, end) in retained.items()}))


def plain(said: Event | dict[str, Any]) -> object:
    """What an event says, the same for Avro's terms and ours."""
    said = said if isinstance(said, dict) else asdict(said)
    return orjson.loads(orjson.dumps(said, default=bytes.hex))


def test_its_deserializer_reads_every_topic_but_the_dead_letters(
    settings: Settings, registry: SchemaRegistryClient, carrying: list[Topic]
) -> None:
    deserialize = AvroDeserializer(registry)
    for topic in carrying:
        records = appended(settings, topic)
        said = [
            plain(deserialize(record.value, SerializationContext(topic.name, MessageField.VALUE)))
            for record in records
        ]
        assert said == [plain(BY_CLASS[kind]) for kind in topic.carries]


def test_its_serializer_which_always_registers_writes_our_bytes(
    registry: SchemaRegistryClient, carrying: list[Topic]
) -> None:
    for topic in carrying:
        context = SerializationContext(topic.name, MessageField.VALUE)
        for kind in topic.carries:
            ours = CODEC.encode(BY_CLASS[kind])
            in_avro = AvroDeserializer(registry)(ours, context)
            subject = f"{topic.name}-cjstream.{kind.__name__}"
            schema = registry.get_latest_version(subject).schema
            serialize = AvroSerializer(
                registry, schema, conf={"subject.name.strategy.type": "TOPIC_RECORD"}
            )
            assert serialize(in_avro, context) == ours


def test_it_registers_nothing_new(registry: SchemaRegistryClient, carrying: list[Topic]) -> None:
    schema = Schema('{"type": "record", "name": "Unknown", "fields": []}', "AVRO")
    with pytest.raises(SchemaRegistryError) as told:
        registry.register_schema(f"{carrying[0].name}-Unknown", schema)
    assert (told.value.http_status_code, told.value.error_code) == (422, 42205)
    assert registry.get_compatibility() == "FULL_TRANSITIVE"
    assert len(registry.get_subjects()) == sum(len(topic.carries) for topic in carrying)
