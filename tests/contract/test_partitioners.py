"""Every client puts a key in the same partition; otherwise joins would be missed silently."""

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


def partitions_by_librdkafka(producer: Producer, topic: str) -> dict[bytes | None, int | None]:
    """The partition to which the producer delivered each key."""
    records = [Record(topic, -1, key, b"") for key in KEYS]
    return {message.key(): message.partition() for message in deliver(producer, records)}


def partitions_by_us() -> dict[bytes, int]:
    return {key: partition_for(key, PARTITIONS) for key in KEYS}


def test_the_keys_are_a_thousand_and_fill_every_partition() -> None:
    assert len(set(KEYS)) == 1000
    assert set(partitions_by_us().values()) == set(range(PARTITIONS))


def test_aiokafka_and_therefore_faust_has_the_same_partitions() -> None:
    partition_of = DefaultPartitioner()
    partitions = list(range(PARTITIONS))
    assert {key: partition_of(key, partitions, partitions) for key in KEYS} == partitions_by_us()


def test_librdkafka_has_the_same_partitions() -> None:
    producer = plain_producer(
        Settings(), **{"test.mock.num.brokers": 1}
    )  # a broker inside librdkafka
    assert partitions_by_librdkafka(producer, "keys") == partitions_by_us()


@pytest.mark.thorough
def test_librdkafka_has_the_same_partitions_on_a_broker(broker: Broker, settings: Settings) -> None:
    del broker  # the settings contain its address
    producer = plain_producer(settings)
    assert (
        partitions_by_librdkafka(producer, settings.topics.instructions.name) == partitions_by_us()
    )


@pytest.mark.parametrize("partitioner", ["consistent_random", "fnv1a_random"])
def test_another_partitioner_gives_other_partitions(partitioner: str) -> None:
    overrides = {"test.mock.num.brokers": 1, "partitioner": partitioner}
    assert (
        partitions_by_librdkafka(plain_producer(Settings(), **overrides), "keys")
        != partitions_by_us()
    )
