"""Offsets of partitions: high watermarks, last stable offsets, log starts."""

from collections.abc import Iterable
from contextlib import suppress

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from processors.kafka.bounded_wait import ANSWER_S, result_of, retry_while_unreachable
from processors.kafka.clients import admin_client
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable


def high_watermarks(
    admin: AdminClient, partitions: Iterable[Partition], seconds: float = 2.0
) -> Positions:
    """The high watermarks, open transactions included: read-committed ends miss acknowledged uploads.

    Raises Unreachable where a partition has no leader or no broker answers.
    """
    return _ends(admin, partitions, IsolationLevel.READ_UNCOMMITTED, seconds)


def last_stable_offsets(
    admin: AdminClient, partitions: Iterable[Partition], seconds: float = 2.0
) -> Positions:
    """Where a reader of committed records ends: below the high watermark while a transaction is open there.

    Raises Unreachable as `high_watermarks`.
    """
    return _ends(admin, partitions, IsolationLevel.READ_COMMITTED, seconds)


def _ends(
    admin: AdminClient, partitions: Iterable[Partition], level: IsolationLevel, seconds: float
) -> Positions:
    asked = {
        TopicPartition(topic, partition): OffsetSpec.latest() for topic, partition in partitions
    }
    futures = admin.list_offsets(asked, isolation_level=level, request_timeout=seconds)
    try:
        return {
            Partition(at.topic, at.partition): valid_offset(result_of(future).offset)
            for at, future in futures.items()
        }
    except KafkaException as fault:
        # the client keeps the old leader, or its epoch, until it is told anew
        with suppress(KafkaException):
            admin.list_topics(timeout=seconds)
        raise Unreachable(f"no end offsets: {fault.args[0].name()}") from fault


def valid_offset(offset: int) -> int:
    """The offset. Raises KafkaException: a leader that dies, or hangs, while it is asked leaves an invalid one."""
    if offset < 0:
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    return offset


def log_start(consumer: Consumer, at: Partition) -> int:
    """The first offset that a partition still has. Raises KafkaException."""
    low, _ = consumer.get_watermark_offsets(TopicPartition(*at), timeout=ANSWER_S, cached=False)
    return low


def high_watermarks_when_reachable(
    settings: Settings, partitions: Iterable[Partition]
) -> Positions:
    """The high watermarks. Raises Unreachable."""
    admin, wanted = admin_client(settings), list(partitions)
    return retry_while_unreachable(lambda: high_watermarks(admin, wanted))
