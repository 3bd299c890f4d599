"""Every client puts a key in the same partition; a missed join would be silent."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Producer

from processors.kafka.clients import plain_producer
from processors.kafka.plain_producer import deliver
from processors.kafka.records import Record
from processors.settings import Settings
from schemas.partitioner import partition_for
from tools.broker import Broker

KEYS = [
    *(f"assignment:a{n}".encode() for n in range(500)),
    *(f"course:{chr(200 + n)}{n}".encode() for n in range(300)),
    *(f"assignment:{'å' * n}".encode() for n in range(200)),
]
PARTITIONS = 4


def as_librdkafka_has_it(producer: Producer, topic: str) -> dict[bytes | None, int | None]:
    """Into which partition our producer put each key, as delivered."""
    records = [Record(topic, -1, key, b"") for key in KEYS]
    return {message.key(): message.partition() for message in deliver(producer, records)}


def as_we_have_it() -> dict[bytes, int]:
    return {key: partition_for(key, PARTITIONS) for key in KEYS}


def test_there_are_a_thousand_keys_in_every_partition() -> None:
    assert len(set(KEYS)) == 1000
    assert set(as_we_have_it().values()) == set(range(PARTITIONS))


def test_aiokafka_and_so_faust_has_the_same_partitions() -> None:
    place = DefaultPartitioner()
    partitions = list(range(PARTITIONS))
    assert {key: place(key, partitions, partitions) for key in KEYS} == as_we_have_it()


def test_librdkafka_has_the_same_partitions() -> None:
    producer = plain_producer(Settings(), **{"test.mock.num.brokers": 1})  # of librdkafka itself
    assert as_librdkafka_has_it(producer, "keys") == as_we_have_it()


def test_librdkafka_has_the_same_partitions_on_a_broker(broker: Broker, settings: Settings) -> None:
    del broker  # the settings lead to it
    producer = plain_producer(settings)
    assert as_librdkafka_has_it(producer, settings.topics.instructions.name) == as_we_have_it()


@pytest.mark.parametrize("partitioner", ["consistent_random", "fnv1a_random"])
def test_another_partitioner_would_be_noticed(partitioner: str) -> None:
    more = {"test.mock.num.brokers": 1, "partitioner": partitioner}
    assert as_librdkafka_has_it(plain_producer(Settings(), **more), "keys") != as_we_have_it()
