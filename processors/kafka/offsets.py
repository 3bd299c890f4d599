"""Offsets of partitions: high watermarks, last stable offsets, log starts."""

from collections.abc import Iterable
from contextlib import suppress

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from processors.kafka.bounded_wait import (
    REQUEST_TIMEOUT_S,
    result_of,
    retry_while_unreachable,
    wait_until,
)
from processors.kafka.clients import admin_client
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable


def high_watermarks(
    admin: AdminClient, partitions: Iterable[Partition], seconds: float = 2.0
) -> Positions:
    """The high watermark of each partition; it counts records of open transactions.

    The last stable offset does not cover every acknowledged upload. Raises Unreachable if a partition has no leader or
    no broker answers.
    """
    return _ends(admin, partitions, IsolationLevel.READ_UNCOMMITTED, seconds)


def last_stable_offsets(
    admin: AdminClient, partitions: Iterable[Partition], seconds: float = 2.0
) -> Positions:
    """The last stable offset of each partition: below the high watermark while a transaction is open there.

    Raises Unreachable like `high_watermarks`.
    """
    return _ends(admin, partitions, IsolationLevel.READ_COMMITTED, seconds)


def _ends(
    admin: AdminClient, partitions: Iterable[Partition], level: IsolationLevel, seconds: float
) -> Positions:
    try:
        return list_offsets(admin, partitions, OffsetSpec.latest(), level, seconds)
    except KafkaException as fault:
        # the client keeps the old leader or its epoch until it reads the metadata again
        with suppress(KafkaException):
            admin.list_topics(timeout=seconds)
        raise Unreachable(f"no end offsets: {fault.args[0].name()}") from fault


def list_offsets(
    admin: AdminClient,
    partitions: Iterable[Partition],
    spec: OffsetSpec,
    level: IsolationLevel = IsolationLevel.READ_COMMITTED,
    seconds: float = REQUEST_TIMEOUT_S,
) -> dict[Partition, int]:
    """The earliest or latest offset of each partition. Raises KafkaException."""
    requested = {TopicPartition(*partition): spec for partition in partitions}
    futures = admin.list_offsets(requested, isolation_level=level, request_timeout=seconds)
    offsets = {
        Partition(tp.topic, tp.partition): result_of(future).offset
        for tp, future in futures.items()
    }
    if min(offsets.values(), default=0) < 0:  # the leader died or hung during the request
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    return offsets


def committed_by(consumer: Consumer, partitions: Iterable[Partition], seconds: float) -> Positions:
    """The committed offsets of a consumer's group; OFFSET_INVALID where there is none. Raises KafkaException.

    The offsets that a read_committed consumer gets are stable.
    """
    committed = consumer.committed([TopicPartition(*tp) for tp in partitions], timeout=seconds)
    for tp in committed:
        if tp.error is not None:
            raise KafkaException(tp.error)
    return {Partition(tp.topic, tp.partition): tp.offset for tp in committed}


def log_start(consumer: Consumer, partition: Partition) -> int:
    """The first offset that the partition still has. Raises KafkaException."""
    low, _ = consumer.get_watermark_offsets(
        TopicPartition(*partition), timeout=REQUEST_TIMEOUT_S, cached=False
    )
    return low


def high_watermarks_when_reachable(
    settings: Settings, partitions: Iterable[Partition]
) -> Positions:
    """The high watermark of each partition; retries while brokers do not answer. Raises Unreachable."""
    admin, requested = admin_client(settings), list(partitions)
    return retry_while_unreachable(lambda: high_watermarks(admin, requested))


def with_open_transactions(settings: Settings, partitions: Iterable[Partition]) -> list[Partition]:
    """Those of the partitions in which an open transaction hides records. Raises Unreachable."""
    admin, requested = admin_client(settings), list(partitions)

    def request() -> list[Partition]:
        ends = high_watermarks(admin, requested)
        stable = last_stable_offsets(admin, requested)
        return [partition for partition, end in ends.items() if stable[partition] < end]

    return retry_while_unreachable(request)


def readable_ends(
    settings: Settings, partitions: Iterable[Partition]
) -> tuple[Positions, list[Partition]]:
    """The high watermark of each partition, or its last stable offset if a transaction stays open for 10 s.

    Also the partitions with such a transaction. Raises Unreachable.
    """
    admin, requested = admin_client(settings), list(partitions)
    ends = high_watermarks_when_reachable(settings, requested)

    def stable() -> Positions:
        return retry_while_unreachable(lambda: last_stable_offsets(admin, requested))

    def are_readable() -> bool:
        return all(offset >= ends[partition] for partition, offset in stable().items())

    with suppress(Unreachable):
        wait_until(are_readable, seconds=REQUEST_TIMEOUT_S, what="open transactions", every_s=0.2)
    readable = {partition: min(ends[partition], offset) for partition, offset in stable().items()}
    return readable, [partition for partition, end in ends.items() if readable[partition] < end]
