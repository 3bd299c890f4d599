"""What can be said of a consumer group from outside: who is in it, and how far it is behind."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from processors.kafka.bounded_wait import ANSWER_S, result_of
from processors.kafka.clients import admin_client, group_reader
from processors.kafka.offsets import valid_offset
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group: its members, and the records it has yet to read, by topic."""

    group: str
    state: str
    members: int
    lag: dict[str, int]


def group_state(settings: Settings, group: str, topics: Iterable[str]) -> GroupState:
    """The state of one group on these topics.

    Partitions without a committed offset count from the log's start. Raises Unreachable.
    """
    asked = [TopicPartition(topic, one) for topic in topics for one in range(settings.partitions)]
    admin = admin_client(settings)
    try:
        described = result_of(admin.describe_consumer_groups([group])[group])
        ends = _offsets(admin, asked, OffsetSpec.latest())
        starts = _offsets(admin, asked, OffsetSpec.earliest())
        committed = _committed(settings, group, asked)
    except KafkaException as fault:
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
    lag: dict[str, int] = {}
    for at, end in ends.items():
        behind = end - max(committed.get(at, 0), starts[at])
        lag[at[0]] = lag.get(at[0], 0) + max(0, behind)
    return GroupState(group, described.state.name, len(described.members), lag)


def committed_offsets(settings: Settings, group: str, partitions: Iterable[Partition]) -> Positions:
    """What a group has committed, of those partitions where it has; it need not exist. Raises Unreachable."""
    try:
        found = _committed(settings, group, [TopicPartition(*one) for one in partitions])
    except KafkaException as fault:
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
    return {Partition(*at): offset for at, offset in found.items()}


def _offsets(
    admin: AdminClient, asked: list[TopicPartition], spec: OffsetSpec
) -> dict[tuple[str, int], int]:
    futures = admin.list_offsets(
        dict.fromkeys(asked, spec),
        isolation_level=IsolationLevel.READ_COMMITTED,
        request_timeout=ANSWER_S,
    )
    return {
        (at.topic, at.partition): valid_offset(result_of(future).offset)
        for at, future in futures.items()
    }


def _committed(
    settings: Settings, group: str, asked: list[TopicPartition]
) -> dict[tuple[str, int], int]:
    with closing(group_reader(settings, group)) as consumer:
        found = consumer.committed(asked, timeout=ANSWER_S)
    for at in found:
        if at.error is not None:
            raise KafkaException(at.error)
    return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}
