"""The catalogue against the cluster: what is missing, what contradicts, and where the log ends."""

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as At
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from processors.kafka.bounded_wait import wait_until
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy, Unreachable
from schemas.retention_check import horizon_warnings
from schemas.topics import Topic
from tables.upload_record import UploadTopics

T = TypeVar("T")
log = logging.getLogger("cjstream.cluster")
ANSWER_S = 10.0
NEW_S = 30.0  # until new topics are shown and have leaders


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic of the catalogue as the cluster has it; no topic_id where it is missing."""

    topic: Topic
    topic_id: str | None
    partitions: int
    replication: int
    contradictions: tuple[str, ...]
    warnings: tuple[str, ...] = ()  # settings that would break the audit horizon


def reach(admin: AdminClient, settings: Settings, seconds: float = ANSWER_S) -> int:
    """The number of brokers. Raises Unreachable."""
    try:
        return len(admin.list_topics(timeout=seconds).brokers)
    except KafkaException as fault:
        raise Unreachable(
            f"no Kafka broker answers at {settings.bootstrap_servers} ({fault.args[0].name()}); "
            "`cjstream broker start` starts the embedded one"
        ) from fault


def cluster_id(admin: AdminClient, settings: Settings) -> str:
    """The id that the cluster was formatted with. Raises Unreachable."""
    reach(admin, settings)
    try:
        return str(admin.list_topics(timeout=ANSWER_S).cluster_id)
    except KafkaException as fault:
        raise Unreachable(f"the cluster does not tell its id: {fault.args[0].name()}") from fault


def topic_states(admin: AdminClient, settings: Settings) -> list[TopicState]:
    """Every topic of the catalogue as the cluster has it. Raises Unreachable."""
    brokers = reach(admin, settings)
    try:
        return _described(admin, settings, brokers)
    except KafkaException as fault:
        raise Unreachable(f"the topics cannot be described: {fault.args[0].name()}") from fault


def _described(admin: AdminClient, settings: Settings, brokers: int) -> list[TopicState]:
    topics = settings.topics.all
    names = [topic.name for topic in topics]
    found = {
        name: _found(future)
        for name, future in admin.describe_topics(
            TopicCollection(names), request_timeout=ANSWER_S
        ).items()
    }
    present = [name for name in names if found[name] is not None]
    configs = _configs(admin, present)
    return [
        _state(topic, found[topic.name], configs.get(topic.name, {}), settings, brokers)
        for topic in topics
    ]


def _found(future: "Future[Any]") -> Any | None:
    try:
        return answered(future)
    except KafkaException as fault:
        if fault.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise


def _configs(admin: AdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    futures = admin.describe_configs(resources, request_timeout=ANSWER_S)
    return {
        resource.name: {name: str(entry.value) for name, entry in answered(future).items()}
        for resource, future in futures.items()
    }


def _state(
    topic: Topic, found: Any | None, config: dict[str, str], settings: Settings, brokers: int
) -> TopicState:
    if found is None:
        return TopicState(topic, None, 0, 0, ())
    partitions = len(found.partitions)
    replication = min(len(partition.replicas) for partition in found.partitions)
    # a broker that is away just now does not make a replicated topic wrong
    due = max(replication, _replication(brokers))
    wanted = topic.config(horizon_days=settings.audit_horizon_days, replication=due)
    contradictions = [
        f"{name} is {config.get(name)}, should be {value}"
        for name, value in wanted.items()
        if config.get(name) != value
    ]
    if partitions != settings.partitions:
        contradictions.insert(0, f"{partitions} partitions, should be {settings.partitions}")
    warnings = horizon_warnings(topic, config, settings.audit_horizon_days)
    return TopicState(
        topic,
        str(found.topic_id),
        partitions,
        replication,
        tuple(contradictions),
        tuple(warnings),
    )


def _replication(brokers: int) -> int:
    return 1 if brokers == 1 else 3  # of two, a third is away: Kafka knows it, or refuses


def apply_topics(admin: AdminClient, settings: Settings) -> list[TopicState]:
    """Create what is missing. Raises Discrepancy where what is there contradicts the catalogue.

    How often topics are kept is what those say that are there, or else the brokers: three times, once if
    there is a single one. Raises Unreachable where too few are up.
    """
    states = topic_states(admin, settings)
    refuse_contradictions(states)
    kept = max(_replication(reach(admin, settings)), *(state.replication for state in states))
    create_topics(admin, settings, [one.topic for one in states if one.topic_id is None], kept)
    return wait_until(lambda: _all_there(admin, settings), seconds=NEW_S, what="the new topics")


def create_topics(
    admin: AdminClient, settings: Settings, topics: Iterable[Topic], replication: int
) -> None:
    """Create topics as the catalogue says. Raises Unreachable where the brokers will not."""
    wanted = [
        NewTopic(
            topic.name,
            num_partitions=settings.partitions,
            replication_factor=replication,
            config=topic.config(horizon_days=settings.audit_horizon_days, replication=replication),
        )
        for topic in topics
    ]
    if wanted:
        for name, future in admin.create_topics(wanted, request_timeout=ANSWER_S).items():
            _created(name, future, replication)


def _all_there(admin: AdminClient, settings: Settings) -> list[TopicState]:
    """Every topic's state, or nothing while a broker does not know one yet or a partition has no leader."""
    try:
        states = topic_states(admin, settings)
        if not all(state.topic_id for state in states):
            return []
        high_watermarks(
            admin,
            [Partition(at.topic.name, n) for at in states for n in range(at.partitions)],
        )
    except Unreachable:
        return []
    return states


def _created(name: str, future: "Future[Any]", replication: int) -> None:
    try:
        answered(future)
    except KafkaException as fault:
        match fault.args[0].code():
            case KafkaError.TOPIC_ALREADY_EXISTS:  # by another one just now
                return
            case KafkaError.INVALID_REPLICATION_FACTOR:
                why = f"it is to be kept {replication} times, and fewer brokers are up: start the others"
            case _:
                why = fault.args[0].str()
        raise Unreachable(f"topic {name} is not created: {why}") from fault


def refuse_contradictions(states: Iterable[TopicState]) -> None:
    """Raise Discrepancy, naming each topic and setting that contradicts the catalogue."""
    told = [
        f"{state.topic.name}: {'; '.join(state.contradictions)}"
        for state in states
        if state.contradictions
    ]
    if told:
        raise Discrepancy("the cluster contradicts the topic catalogue: " + " | ".join(told))


def checked_topics(admin: AdminClient, settings: Settings) -> dict[str, str]:
    """The topic ids by name, of a cluster that has every topic just as the catalogue says.

    Raises Discrepancy where a topic is missing or contradicts, Unreachable without a broker.
    """
    states = topic_states(admin, settings)
    missing = [state.topic.name for state in states if state.topic_id is None]
    if missing:
        raise Discrepancy(
            f"missing topics: {', '.join(missing)}; `cjstream topics apply` creates them"
        )
    refuse_contradictions(states)
    return {state.topic.name: str(state.topic_id) for state in states}


def upload_topics(settings: Settings) -> UploadTopics:
    """The upload topics as the fold wants to know them."""
    by_name = {topic.name: topic for topic in settings.topics.uploads}
    return UploadTopics(by_name, settings.partitions)


def upload_partitions(settings: Settings) -> list[Partition]:
    """Every partition of the three upload topics."""
    return [
        Partition(topic.name, partition)
        for topic in settings.topics.uploads
        for partition in range(settings.partitions)
    ]


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
    asked = {At(topic, partition): OffsetSpec.latest() for topic, partition in partitions}
    futures = admin.list_offsets(asked, isolation_level=level, request_timeout=seconds)
    try:
        return {
            Partition(at.topic, at.partition): valid_offset(answered(future).offset)
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


def answered(future: "Future[T]") -> T:
    """What an admin request came to; KafkaException where it was refused or got no answer."""
    try:
        return future.result(timeout=ANSWER_S + 5)
    except TimeoutError as fault:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from fault
