"""The state of a consumer group, seen from outside: its members and its lag."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S, result_of
from processors.kafka.clients import admin_client, group_reader
from processors.kafka.offsets import valid_offset
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group: its number of members, and its lag in records, by topic."""

    group: str
    state: str
    members: int
    lag: dict[str, int]


def group_state(settings: Settings, group: str, topics: Iterable[str]) -> GroupState:
    """The state of a group on these topics. Raises Unreachable.

    The lag of a partition without a committed offset counts from the log start.
    """
    requested = [
        TopicPartition(topic, number) for topic in topics for number in range(settings.partitions)
    ]
    admin = admin_client(settings)
    try:
        described = result_of(admin.describe_consumer_groups([group])[group])
        ends = _offsets(admin, requested, OffsetSpec.latest())
        starts = _offsets(admin, requested, OffsetSpec.earliest())
        committed = _committed(settings, group, requested)
    except KafkaException as fault:
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
    lag: dict[str, int] = {}
    for (topic, number), end in ends.items():
        position = max(committed.get((topic, number), 0), starts[topic, number])
        lag[topic] = lag.get(topic, 0) + max(0, end - position)
    return GroupState(group, described.state.name, len(described.members), lag)


def committed_offsets(settings: Settings, group: str, partitions: Iterable[Partition]) -> Positions:
    """The committed offsets of a group, without the partitions that have none; the group need not exist.

    Raises Unreachable.
    """
    try:
        committed = _committed(settings, group, [TopicPartition(*tp) for tp in partitions])
    except KafkaException as fault:
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
    return {Partition(*tp): offset for tp, offset in committed.items()}


def _offsets(
    admin: AdminClient, requested: list[TopicPartition], spec: OffsetSpec
) -> dict[tuple[str, int], int]:
    futures = admin.list_offsets(
        dict.fromkeys(requested, spec),
        isolation_level=IsolationLevel.READ_COMMITTED,
        request_timeout=REQUEST_TIMEOUT_S,
    )
    return {
        (tp.topic, tp.partition): valid_offset(result_of(future).offset)
        for tp, future in futures.items()
    }


def _committed(
    settings: Settings, group: str, requested: list[TopicPartition]
) -> dict[tuple[str, int], int]:
    with closing(group_reader(settings, group)) as consumer:
        committed = consumer.committed(requested, timeout=REQUEST_TIMEOUT_S)
    for tp in committed:
        if tp.error is not None:
            raise KafkaException(tp.error)
    return {(tp.topic, tp.partition): tp.offset for tp in committed if tp.offset >= 0}
