"""What can be said of a consumer group from outside: who is in it, and how far it is behind."""

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException
from confluent_kafka import TopicPartition as At
from confluent_kafka.admin import AdminClient, OffsetSpec

from processors.clients import reader
from processors.cluster import ANSWER_S, answered, valid_offset
from processors.settings import Settings
from processors.waiting import wait_until
from schemas.errors import Unreachable
from tables.replica import Partition, Positions

COORDINATOR_S = 30.0  # the first group of a cluster has to wait for its topic


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group: its members, and the records it has yet to read, by topic."""

    group: str
    state: str
    members: int
    lag: dict[str, int]


def group_state(
    admin: AdminClient, group: str, topics: Iterable[str], partitions: int
) -> GroupState:
    """The state of one group on topics of so many partitions.

    Partitions without a committed offset count from the log's start. Raises Unreachable.
    """
    asked = [At(topic, partition) for topic in topics for partition in range(partitions)]
    try:
        described = answered(admin.describe_consumer_groups([group])[group])
        ends = _offsets(admin, asked, OffsetSpec.latest())
        starts = _offsets(admin, asked, OffsetSpec.earliest())
        committed = _committed(admin, group, asked)
    except KafkaException as fault:
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
    lag: dict[str, int] = {}
    for at, end in ends.items():
        behind = end - max(committed.get(at, 0), starts[at])
        lag[at[0]] = lag.get(at[0], 0) + max(0, behind)
    return GroupState(group, described.state.name, len(described.members), lag)


def committed_offsets(admin: AdminClient, group: str, partitions: Iterable[Partition]) -> Positions:
    """What a group has committed, of those partitions where it has. Raises Unreachable."""
    try:
        found = _committed(admin, group, [At(*one) for one in partitions])
    except KafkaException as fault:
        raise Unreachable(f"group {group}: {fault.args[0].str()}") from fault
    return {Partition(*at): offset for at, offset in found.items()}


def positions_of_group(
    settings: Settings, group: str, partitions: Iterable[Partition]
) -> Positions:
    """What a group has committed, of those partitions where it has; it need not exist. Raises Unreachable.

    Asked by a consumer that joins nothing: librdkafka's admin client crashes the process where the coordinator of a
    group has just moved, or never was (librdkafka #5040).
    """
    asked = [At(*one) for one in partitions]
    # uncommitted: stable offsets can be waited for in vain beside transactions that follow each other
    consumer = reader(settings, **{"group.id": group, "isolation.level": "read_uncommitted"})

    def answer() -> list[At]:
        try:
            return consumer.committed(asked, timeout=ANSWER_S)
        except KafkaException:  # such as "not coordinator", which is not marked as retriable
            return []

    try:
        found = wait_until(answer, seconds=COORDINATOR_S, what=f"the coordinator of group {group}")
    finally:
        consumer.close()
    if fault := next((at.error for at in found if at.error is not None), None):
        raise Unreachable(f"group {group}: {fault.str()}")
    return {Partition(at.topic, at.partition): at.offset for at in found if at.offset >= 0}


def _offsets(admin: AdminClient, asked: list[At], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    futures = admin.list_offsets(
        dict.fromkeys(asked, spec),
        isolation_level=IsolationLevel.READ_COMMITTED,
        request_timeout=ANSWER_S,
    )
    return {
        (at.topic, at.partition): valid_offset(answered(future).offset)
        for at, future in futures.items()
    }


def _committed(admin: AdminClient, group: str, asked: list[At]) -> dict[tuple[str, int], int]:
    wanted = ConsumerGroupTopicPartitions(group, asked)
    found = answered(admin.list_consumer_group_offsets([wanted])[group])
    offsets = found.topic_partitions or []
    return {(at.topic, at.partition): at.offset for at in offsets if at.offset >= 0}
