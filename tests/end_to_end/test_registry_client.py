"""Confluent's own client works with the schema registry of a running `cjstream api` process."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import LogRecord, Record
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.codec import Codec
from schemas.events import Event
from schemas.topics import Topic
from tests.contract.schemas.samples import SAMPLES
from tests.end_to_end.serving import ready_api
from tests.support.builders import avro_fields

BY_CLASS = {type(event): event for event in SAMPLES.values()}
CODEC = Codec()


@pytest.fixture
def registry(settings: Settings) -> Iterator[SchemaRegistryClient]:
    """Confluent's client, connected to the registry of the test's installation."""
    with (
        ready_api(settings, environment="development") as api,
        SchemaRegistryClient({"url": f"{api.url}/registry"}) as client,
    ):
        yield client


@pytest.fixture
def carrying(settings: Settings) -> list[Topic]:
    """The topics that carry events: all except the dead-letter topics."""
    return [topic for topic in settings.topics.all if topic.carries]


def appended(settings: Settings, topic: Topic) -> list[LogRecord]:
    """Append one event of each class of a topic; returns the records as read from it."""
    producer = plain_producer(settings)
    for kind in topic.carries:
        deliver(producer, [Record(topic.name, 0, b"key", CODEC.encode(BY_CLASS[kind]))])
    with LogReader(settings, settings.partitions_of(topic)) as log:
        ends = log.seek_to_start()
        return list(log.records_until(ends))


def plain(event: Event | dict[str, Any]) -> object:
    """The fields of an event as JSON values, equal for our classes and for Confluent's dicts."""
    fields = event if isinstance(event, dict) else avro_fields(event)
    return orjson.loads(orjson.dumps(fields, default=bytes.hex))


def test_confluents_deserializer_reads_every_topic_except_dead_letters(
    settings: Settings, registry: SchemaRegistryClient, carrying: list[Topic]
) -> None:
    deserialize = AvroDeserializer(registry)
    for topic in carrying:
        records = appended(settings, topic)
        events = [
            plain(deserialize(record.value, SerializationContext(topic.name, MessageField.VALUE)))
            for record in records
        ]
        assert events == [plain(BY_CLASS[kind]) for kind in topic.carries]


def test_confluents_serializer_which_always_registers_writes_the_same_bytes(
    registry: SchemaRegistryClient, carrying: list[Topic]
) -> None:
    for topic in carrying:
        context = SerializationContext(topic.name, MessageField.VALUE)
        for kind in topic.carries:
            encoded = CODEC.encode(BY_CLASS[kind])
            fields = AvroDeserializer(registry)(encoded, context)
            subject = f"{topic.name}-cjstream.{kind.__name__}"
            schema = registry.get_latest_version(subject).schema
            serialize = AvroSerializer(
                registry, schema, conf={"subject.name.strategy.type": "TOPIC_RECORD"}
            )
            assert serialize(fields, context) == encoded


def test_the_registry_registers_nothing_new(
    registry: SchemaRegistryClient, carrying: list[Topic]
) -> None:
    schema = Schema('{"type": "record", "name": "Unknown", "fields": []}', "AVRO")
    with pytest.raises(SchemaRegistryError) as caught:
        registry.register_schema(f"{carrying[0].name}-Unknown", schema)
    assert (caught.value.http_status_code, caught.value.error_code) == (422, 42205)
    assert registry.get_compatibility() == "FULL_TRANSITIVE"
    assert len(registry.get_subjects()) == sum(len(topic.carries) for topic in carrying)
