"""The state of a consumer group, seen from outside: its members and its lag."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ConsumerGroupDescription, OffsetSpec

from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S, result_of
from processors.kafka.clients import admin_client, group_reader, instance_id
from processors.kafka.offsets import committed_by, list_offsets
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Refusal, Unreachable

GROUP_IS_ACTIVE = {  # the answers to a commit from outside, while the group has members
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.REBALANCE_IN_PROGRESS,
}
SETTLED = {ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD}


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group: its number of members, its lag in records by topic, and the members that are no workers."""

    group: str
    state: str
    members: int
    lag: dict[str, int]
    strangers: tuple[str, ...] = ()  # client id and host


def group_state(settings: Settings, group: str, topics: Iterable[str]) -> GroupState:
    """The state of a group on these topics. Raises Unreachable.

    The lag of a partition without a committed offset counts from the log start.
    """
    partitions = [
        Partition(topic, number) for topic in topics for number in range(settings.partitions)
    ]
    admin = admin_client(settings)
    try:
        described = result_of(admin.describe_consumer_groups([group])[group])
        ends = list_offsets(admin, partitions, OffsetSpec.latest())
        starts = list_offsets(admin, partitions, OffsetSpec.earliest())
        committed = committed_offsets(settings, group, partitions)
    except KafkaException as fault:
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
    lag: dict[str, int] = {}
    for partition, end in ends.items():
        position = max(committed.get(partition, 0), starts[partition])
        lag[partition.topic] = lag.get(partition.topic, 0) + max(0, end - position)
    strangers = tuple(
        f"{member.client_id} at {member.host}"
        for member in described.members
        if not member.client_id.startswith(f"{settings.topic_prefix}cjstream-")
    )
    return GroupState(group, described.state.name, len(described.members), lag, strangers)


def member_of_slot(settings: Settings, group: str) -> str | None:
    """The id of the group's member that has this process's slot; None if nobody has it. Raises Unreachable."""
    slot = instance_id(settings, group)
    members = _described(settings, group).members
    return next((one.member_id for one in members if one.group_instance_id == slot), None)


def partitions_with_owner(settings: Settings, group: str) -> frozenset[Partition] | None:
    """The partitions that a member of the group owns; None while it rebalances. Raises Unreachable."""
    described = _described(settings, group)
    if described.state not in SETTLED:
        return None
    return frozenset(
        Partition(tp.topic, tp.partition)
        for member in described.members
        for tp in member.assignment.topic_partitions
    )


def _described(settings: Settings, group: str) -> ConsumerGroupDescription:
    admin = admin_client(settings)  # a new one: see `group_reader`
    try:
        described: ConsumerGroupDescription = result_of(
            admin.describe_consumer_groups([group])[group]
        )
    except KafkaException as fault:
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
    return described


def committed_offsets(settings: Settings, group: str, partitions: Iterable[Partition]) -> Positions:
    """The committed offsets of a group, without the partitions that have none; the group need not exist.

    Raises Unreachable.
    """
    try:
        with closing(group_reader(settings, group)) as consumer:
            committed = committed_by(consumer, partitions, REQUEST_TIMEOUT_S)
    except KafkaException as fault:
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
    return {partition: offset for partition, offset in committed.items() if offset >= 0}


def set_committed_offsets(settings: Settings, group: str, offsets: Positions) -> None:
    """Commit offsets of a group that has no members. Raises Refusal if it has some, Unreachable."""
    wanted = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
    try:
        with closing(group_reader(settings, group)) as consumer:
            committed = consumer.commit(offsets=wanted, asynchronous=False)
        for tp in committed or ():
            if tp.error is not None:
                raise KafkaException(tp.error)
    except KafkaException as fault:
        if fault.args[0].code() in GROUP_IS_ACTIVE:
            raise Refusal(f"group {group} has members: stop all workers first") from fault
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
