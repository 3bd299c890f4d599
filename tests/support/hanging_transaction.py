"""Makes transactions that hang: a producer writes to a partition that it has not added to its transaction.

The broker must have `transaction.partition.verification.enable=false`; then its coordinator never ends them.
"""

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from confluent_kafka import Producer

from processors.kafka.bounded_wait import retry_while_unreachable
from processors.kafka.clients import aiokafka_config, plain_producer, transactional_producer
from processors.kafka.consumer_groups import group_state
from processors.kafka.transactions import STATE_TOPIC, internal_partition
from processors.settings import Settings
from schemas.coordinates import Partition
from tools.broker import Broker

T = TypeVar("T")
CONCURRENT_TRANSACTIONS = 51  # Kafka's error code
UNVERIFIED = {"transaction.partition.verification.enable": "false"}  # a broker's property


@contextmanager
def unverified_broker() -> Iterator[Broker]:
    """A broker that lets producers write to partitions that they have not added to their transaction."""
    with Broker.temporary(Path(__file__).parents[2] / ".cjstream", UNVERIFIED) as broker:
        first = Settings(bootstrap_servers=broker.bootstrap, topic_prefix="first-")
        producer: Producer = transactional_producer(first, "first")
        producer.init_transactions(60)  # creates the coordinators' topics, which takes a moment
        retry_while_unreachable(lambda: group_state(first, first.prep_group, []), 60)
        yield broker


def hang(settings: Settings, at: Partition, transactional_id: str, value: bytes = b"x") -> int:
    """Leave a transaction of one record open on a partition; the id of its producer."""

    async def write(client: Any) -> int:
        producer_id, epoch = await _new_producer(client, transactional_id)
        await _produce(client, at, transactional_id, (producer_id, epoch, 0), value)
        return producer_id

    return _run(settings, write)


def log_decision(
    settings: Settings, transactional_id: str, producer_id: int, partition: Partition
) -> None:
    """Append the coordinator's decision to commit a transaction with this partition to its log."""
    name, topic = transactional_id.encode(), partition.topic.encode()
    now_ms = round(time.time() * 1000)
    key = struct.pack(">hh", 0, len(name)) + name
    value = struct.pack(">hqhib", 0, producer_id, 0, 10_000, 2)
    value += struct.pack(">ih", 1, len(topic)) + topic
    value += struct.pack(">iiqq", 1, partition.partition, now_ms, now_ms)
    # brokers let no other client write to internal topics
    producer: Producer = plain_producer(settings, **{"client.id": "__admin_client"})
    producer.produce(STATE_TOPIC, value, key, internal_partition(transactional_id, 4))
    assert producer.flush(30) == 0


def hang_after_commit(
    settings: Settings, at: Partition, transactional_id: str, *values: bytes
) -> int:
    """Commit the first value in a transaction, and write the second when it has ended; the id of the producer."""

    async def write(client: Any) -> int:
        producer_id, epoch = await _new_producer(client, transactional_id)
        coordinator = await client.coordinator_lookup(
            CoordinationType.TRANSACTION, transactional_id
        )
        identity = (transactional_id, producer_id, epoch)
        added = await client.send(
            coordinator, AddPartitionsToTxnRequest(*identity, [(at.topic, [at.partition])])
        )
        assert added.errors == [(at.topic, [(at.partition, 0)])], added
        await _produce(client, at, transactional_id, (producer_id, epoch, 0), values[0])
        ended = CONCURRENT_TRANSACTIONS
        while ended == CONCURRENT_TRANSACTIONS:  # the second answer comes when it has ended
            request = EndTxnRequest(*identity, True)
            await client.send(coordinator, request)
            ended = (await client.send(coordinator, request)).error_code
        assert ended == 0
        await _produce(client, at, transactional_id, (producer_id, epoch, 1), values[1])
        return producer_id

    return _run(settings, write)


async def _produce(
    client: Any, at: Partition, transactional_id: str, producer: tuple[int, int, int], value: bytes
) -> None:
    """Append one record of a producer with this id, epoch and sequence number."""
    batch = DefaultRecordBatchBuilder(2, 0, 1, *producer, 1 << 20)
    batch.append(0, round(time.time() * 1000), b"key", value, [])
    metadata = await client.fetch_all_metadata()
    leader = metadata.leader_for_partition(TopicPartition(*at))
    topics = [(at.topic, [(at.partition, bytes(batch.build()))])]
    answer = await client.send(leader, ProduceRequest(transactional_id, -1, 10_000, topics))
    [(_, [partition])] = answer.topics
    assert partition[1] == 0, answer


def hang_offsets(
    settings: Settings, group: str, offsets: Mapping[Partition, int], transactional_id: str
) -> int:
    """Leave a transaction open in which offsets of a group are committed; the id of its producer."""

    async def write(client: Any) -> int:
        producer_id, epoch = await _new_producer(client, transactional_id)
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        topics = [(tp.topic, [(tp.partition, offset, "")]) for tp, offset in offsets.items()]
        request = TxnOffsetCommitRequest(transactional_id, group, producer_id, epoch, topics)
        answer = await client.send(coordinator, request)
        codes = {code for _, partitions in answer.errors for _, code in partitions}
        assert codes == {0}, answer
        return producer_id

    return _run(settings, write)


async def _new_producer(client: Any, transactional_id: str) -> tuple[int, int]:
    coordinator = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
    request = InitProducerIdRequest(transactional_id, 10_000)
    answer = await client.send(coordinator, request)
    while answer.error_code == CONCURRENT_TRANSACTIONS:  # the last one is still being ended
        answer = await client.send(coordinator, request)
    assert answer.error_code == 0, answer
    return answer.producer_id, answer.producer_epoch


def _run(settings: Settings, work: Callable[[Any], Awaitable[T]]) -> T:
    async def connected() -> T:
        client = AIOKafkaClient(**aiokafka_config(settings))
        await client.bootstrap()
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(connected())
