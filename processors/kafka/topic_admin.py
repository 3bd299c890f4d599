"""The catalogue against the cluster: what is missing, what contradicts, and where the log ends."""

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from processors.kafka.bounded_wait import ANSWER_S, result_of, wait_until
from processors.kafka.offsets import high_watermarks
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import Discrepancy, Unreachable
from schemas.retention_check import horizon_warnings
from schemas.topics import Topic

log = logging.getLogger("cjstream.cluster")
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


def count_brokers(admin: AdminClient, settings: Settings, seconds: float = ANSWER_S) -> int:
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
    count_brokers(admin, settings)
    try:
        return str(admin.list_topics(timeout=ANSWER_S).cluster_id)
    except KafkaException as fault:
        raise Unreachable(f"the cluster does not tell its id: {fault.args[0].name()}") from fault


def topic_states(admin: AdminClient, settings: Settings) -> list[TopicState]:
    """Every topic of the catalogue as the cluster has it. Raises Unreachable."""
    brokers = count_brokers(admin, settings)
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
        return result_of(future)
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
        resource.name: {name: str(entry.value) for name, entry in result_of(future).items()}
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
    kept = max(
        _replication(count_brokers(admin, settings)), *(state.replication for state in states)
    )
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
        result_of(future)
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


def metadata_answers(bootstrap_servers: str, *, timeout_s: float = 1.0) -> bool:
    """Whether a broker there answers a metadata request; an open port alone is not ready."""
    client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False
