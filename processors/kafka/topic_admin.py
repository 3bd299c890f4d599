"""Compares the topic catalogue with the cluster, and creates missing topics."""

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S, result_of, wait_until
from processors.kafka.offsets import high_watermarks
from processors.kafka.rights import DENIED, REMEDY
from processors.kafka.why_refused import unreachable_brokers, why_refused
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import Discrepancy, Unreachable
from schemas.retention_check import horizon_warnings
from schemas.topics import STORED, Topic

log = logging.getLogger("cjstream.cluster")
CREATION_TIMEOUT_S = 30.0  # until new topics are listed and have leaders


@dataclass(frozen=True, slots=True)
class TopicState:
    """The state of one catalogue topic in the cluster; topic_id is None if it is missing."""

    topic: Topic
    topic_id: str | None
    partitions: int
    replication: int
    contradictions: tuple[str, ...]
    outdated: tuple[str, ...] = ()  # settings of an earlier release, which `apply_topics` changes
    warnings: tuple[str, ...] = ()  # settings that would break the audit horizon

    @property
    def all_partitions(self) -> list[Partition]:
        """The partitions that the topic has in the cluster; none if it is missing."""
        return [Partition(self.topic.name, number) for number in range(self.partitions)]


def count_brokers(
    admin: AdminClient, settings: Settings, seconds: float = REQUEST_TIMEOUT_S
) -> int:
    """The number of brokers. Raises Unreachable, also if nothing answers at the addresses that they give."""
    metadata = _metadata(admin, settings, seconds)
    if why := unreachable_brokers(metadata, settings):
        raise Unreachable(why)
    return len(metadata.brokers)


def cluster_id(admin: AdminClient, settings: Settings) -> str:
    """The id of the cluster. Raises Unreachable."""
    return str(_metadata(admin, settings, REQUEST_TIMEOUT_S).cluster_id)


def _metadata(admin: AdminClient, settings: Settings, seconds: float) -> ClusterMetadata:
    try:
        return admin.list_topics(timeout=seconds)
    except KafkaException as fault:
        why = why_refused(settings) or (
            f"no Kafka broker answers at {settings.bootstrap_servers} ({fault.args[0].name()}); "
            "`cjstream broker start` starts the embedded one"
        )
        raise Unreachable(why) from fault


class SeenTopic(NamedTuple):
    """What the cluster says of a topic."""

    topic_id: str
    partitions: int


def seen_topics(admin: AdminClient, settings: Settings) -> dict[str, SeenTopic | None]:
    """Every catalogue topic; None if the cluster does not have it. Raises Unreachable."""
    return {
        name: description and SeenTopic(str(description.topic_id), len(description.partitions))
        for name, description in _descriptions(admin, settings).items()
    }


def topic_ids(admin: AdminClient, settings: Settings) -> dict[str, str | None]:
    """The id of every catalogue topic; None if the cluster does not have it. Raises Unreachable."""
    return {name: seen and seen.topic_id for name, seen in seen_topics(admin, settings).items()}


def more_partitions(name: str, found: int, expected: int) -> str:
    """What to say of a topic that was given more partitions."""
    return (
        f"{name} was given partitions, it has {found} instead of {expected}: nobody reads the new ones, and keys move "
        "to other partitions. Kafka removes none: delete the topic, and create it again, empty, with "
        "`cjstream topics apply`, or go on under another CJSTREAM_TOPIC_PREFIX"
    )


def topic_states(admin: AdminClient, settings: Settings) -> list[TopicState]:
    """The state of every catalogue topic in the cluster. Raises Unreachable."""
    brokers, topics = count_brokers(admin, settings), settings.topics.all
    descriptions = _descriptions(admin, settings)
    try:
        configs = _configs(admin, (name for name in descriptions if descriptions[name] is not None))
    except KafkaException as fault:
        raise _undescribed(fault) from fault
    return [
        _state(topic, descriptions[topic.name], configs.get(topic.name, {}), settings, brokers)
        for topic in topics
    ]


def _descriptions(admin: AdminClient, settings: Settings) -> dict[str, Any | None]:
    names = TopicCollection([topic.name for topic in settings.topics.all])
    try:
        futures = admin.describe_topics(names, request_timeout=REQUEST_TIMEOUT_S)
        return {name: _description_or_none(future) for name, future in futures.items()}
    except KafkaException as fault:
        raise _undescribed(fault) from fault


def _undescribed(fault: KafkaException) -> Unreachable:
    error = fault.args[0].name()
    remedy = f"; {REMEDY}" if error.endswith(DENIED) else ""
    return Unreachable(f"the topics cannot be described: {error}{remedy}")


def _description_or_none(future: "Future[Any]") -> Any | None:
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
    futures = admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
    return {
        resource.name: {name: str(entry.value) for name, entry in result_of(future).items()}
        for resource, future in futures.items()
    }


def _state(
    topic: Topic,
    description: Any | None,
    config: dict[str, str],
    settings: Settings,
    brokers: int,
) -> TopicState:
    if description is None:
        return TopicState(topic, None, 0, 0, ())
    partitions = len(description.partitions)
    replication = min(len(partition.replicas) for partition in description.partitions)
    # a broker that is temporarily down must not make a replicated topic wrong
    expected = max(replication, _replication(brokers))
    wanted = topic.config(horizon_days=settings.audit_horizon_days, replication=expected)
    differences = {
        name: f"{name} is {config.get(name)}, should be {value}"
        for name, value in wanted.items()
        if config.get(name) != value
    }
    outdated = tuple(differences.pop(name) for name in STORED if name in differences)
    contradictions = list(differences.values())
    if partitions != settings.partitions:
        contradictions.insert(0, f"{partitions} partitions, should be {settings.partitions}")
    warnings = horizon_warnings(topic, config, settings.audit_horizon_days)
    return TopicState(
        topic,
        str(description.topic_id),
        partitions,
        replication,
        tuple(contradictions),
        outdated,
        tuple(warnings),
    )


def _replication(brokers: int) -> int:
    # with two brokers up, ask for 3: the third may only be down; if there is none, Kafka refuses
    return 1 if brokers == 1 else 3


def apply_topics(admin: AdminClient, settings: Settings) -> list[TopicState]:
    """Create missing topics, and change the outdated settings of existing ones; returns the state of every topic.

    The replication factor is 3, or 1 for a single broker; it is larger if that of an existing topic is larger.
    Raises Discrepancy if an existing topic contradicts the catalogue, Unreachable if too few brokers are up or the
    brokers refuse.
    """
    states = topic_states(admin, settings)
    refuse_contradictions(states)
    replication = max(
        _replication(count_brokers(admin, settings)), *(state.replication for state in states)
    )
    missing = [state.topic for state in states if state.topic_id is None]
    create_topics(admin, settings, missing, replication)
    _update(admin, [state.topic.name for state in states if state.outdated])
    return wait_until(
        lambda: _states_when_ready(admin, settings),
        seconds=CREATION_TIMEOUT_S,
        what="the new topics",
    )


def _update(admin: AdminClient, names: Iterable[str]) -> None:
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in STORED.items()
    ]
    resources = [
        ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name in names
    ]
    if not resources:
        return
    futures = admin.incremental_alter_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
    for resource, future in futures.items():
        try:
            result_of(future)
        except KafkaException as fault:
            reason = fault.args[0].str()
            raise Unreachable(f"topic {resource.name} was not changed: {reason}") from fault


def create_topics(
    admin: AdminClient, settings: Settings, topics: Iterable[Topic], replication: int
) -> None:
    """Create topics with the settings of the catalogue. Raises Unreachable if the brokers refuse."""
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
        for name, future in admin.create_topics(wanted, request_timeout=REQUEST_TIMEOUT_S).items():
            _check_created(name, future, replication)


def _states_when_ready(admin: AdminClient, settings: Settings) -> list[TopicState]:
    """The state of every topic; empty while a broker does not know a topic yet or a partition has no leader."""
    try:
        states = topic_states(admin, settings)
        if not all(state.topic_id for state in states) or any(state.outdated for state in states):
            return []
        high_watermarks(admin, chain.from_iterable(state.all_partitions for state in states))
    except Unreachable:
        return []
    return states


def _check_created(name: str, future: "Future[Any]", replication: int) -> None:
    try:
        result_of(future)
    except KafkaException as fault:
        match fault.args[0].code():
            case KafkaError.TOPIC_ALREADY_EXISTS:  # another process created it at the same time
                return
            case KafkaError.INVALID_REPLICATION_FACTOR:
                reason = (
                    f"it needs {replication} replicas, and fewer brokers are up: start the others"
                )
            case _:
                reason = fault.args[0].str()
        raise Unreachable(f"topic {name} was not created: {reason}") from fault


def refuse_contradictions(states: Iterable[TopicState]) -> None:
    """Raise Discrepancy, naming each topic and setting that contradicts the catalogue."""
    contradictions = [
        f"{state.topic.name}: {'; '.join(state.contradictions)}"
        for state in states
        if state.contradictions
    ]
    if contradictions:
        raise Discrepancy(
            "the cluster contradicts the topic catalogue: " + " | ".join(contradictions)
        )


def checked_topics(admin: AdminClient, settings: Settings) -> dict[str, str]:
    """The topic ids by name, if the cluster has every topic exactly as in the catalogue.

    Raises Discrepancy if a topic is missing or contradicts it, Unreachable if no broker answers.
    """
    states = topic_states(admin, settings)
    missing = [state.topic.name for state in states if state.topic_id is None]
    if missing:
        raise Discrepancy(
            f"missing topics: {', '.join(missing)}; `cjstream topics apply` creates them"
        )
    refuse_contradictions(states)
    return {state.topic.name: str(state.topic_id) for state in states}


def metadata_answers(config: Mapping[str, Any], *, timeout_s: float = 1.0) -> bool:
    """Whether a broker answers a metadata request of a client with this configuration: an open port means nothing."""
    # connects every 100 ms: by default the pauses double, and a broker that starts is noticed late
    client = AdminClient({**config, "log_level": 0, "reconnect.backoff.max.ms": 100})
    try:
        return bool(client.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False
