"""Makes transactions that hang: a producer writes to a partition that it has not added to its transaction.

The broker must have `transaction.partition.verification.enable=false`; then its coordinator never ends them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest, TxnOffsetCommitRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from processors.kafka.clients import aiokafka_config
from processors.settings import Settings
from schemas.coordinates import Partition

T = TypeVar("T")
CONCURRENT_TRANSACTIONS = 51  # Kafka's error code
UNVERIFIED = {"transaction.partition.verification.enable": "false"}  # a broker's property


def hang(settings: Settings, at: Partition, transactional_id: str, value: bytes = b"x") -> int:
    """Leave a transaction of one record open on a partition; the id of its producer."""

    async def write(client: Any) -> int:
        producer_id, epoch = await _new_producer(client, transactional_id)
        batch = DefaultRecordBatchBuilder(2, 0, 1, producer_id, epoch, 0, 1 << 20)
        batch.append(0, round(time.time() * 1000), b"key", value, [])
        metadata = await client.fetch_all_metadata()
        leader = metadata.leader_for_partition(TopicPartition(*at))
        topics = [(at.topic, [(at.partition, bytes(batch.build()))])]
        answer = await client.send(leader, ProduceRequest(transactional_id, -1, 10_000, topics))
        [(_, [partition])] = answer.topics
        assert partition[1] == 0, answer
        return producer_id

    return _run(settings, write)


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
