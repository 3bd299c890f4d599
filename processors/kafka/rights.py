"""The rights (ACLs) that each process needs in a cluster with an authorizer, and which of them its user lacks.

Which request needs which operation: Kafka's documentation, section "Authorization and ACLs".
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S, result_of
from processors.kafka.clients import (
    admin_transactional_id,
    judge_transactional_id,
    reader_group,
    transactional_id,
)
from processors.settings import Settings
from schemas.errors import Discrepancy, Unreachable
from schemas.topics import Topic

Process = Literal["worker", "judge", "api", "auditor", "producer", "operator"]
Kind = Literal["topic", "group", "transactional-id", "cluster"]
PROCESSES: dict[Process, str] = {
    "worker": "cjstream worker",
    "judge": "cjstream judge",
    "api": "cjstream api",
    "auditor": "the reading commands: audit, results, batches tail, parked list, dlq list, doctor, topics list",
    "producer": "uploads send and requests send, or another producer of uploads and requests",
    "operator": "the commands that repair: topics apply, dlq redrive, requests reset-offsets, and others",
}
DENIED = "_AUTHORIZATION_FAILED"  # at the end of the names of Kafka's errors
REMEDY = "`cjstream topics acls` prints the rights that each process needs"


@dataclass(frozen=True, slots=True)
class Right:
    """Operations on one resource; `is_prefix` if the name is that of every resource that begins with it."""

    kind: Kind
    name: str
    operations: tuple[str, ...]
    is_prefix: bool = False

    def __str__(self) -> str:
        return f"{', '.join(self.operations)} on {self.kind} {self.name}"


def rights_of(process: Process, settings: Settings) -> list[Right]:
    """What a process needs, each resource once. Resources of one partition or slot are named for it."""
    topics = settings.topics
    everywhere = _on_topics(topics.all, "DESCRIBE", "DESCRIBE_CONFIGS")
    reads = _on_topics(topics.all, "READ")
    everywhere.append(Right("group", reader_group(settings), ("DESCRIBE",)))
    groups = [Right("group", name, ("DESCRIBE",)) for name in _groups(settings)]
    match process:
        case "worker":
            written = (
                *topics.uploads,  # a good upload that garbage hides is appended anew
                topics.context,
                topics.parked,
                *topics.outcomes,
                topics.uploads_dlq,
            )
            needed = [
                *everywhere,
                *reads,
                *_on_topics(written, "WRITE"),
                *(Right("group", name, ("READ",)) for name in _worker_groups(settings)),
                *_worker_ids(settings),
            ]
        case "judge":
            needed = [
                *everywhere,
                *reads,
                *_on_topics((topics.judging, topics.results), "WRITE"),
                Right("group", settings.judge_group, ("READ",)),
                _own_id(settings, judge_transactional_id(settings), settings.judge_group),
            ]
        case "api":
            needed = [
                *everywhere,
                *reads,
                *_on_topics(topics.administered, "WRITE"),
                *groups,
                *(
                    Right(
                        "transactional-id",
                        admin_transactional_id(settings, number),
                        ("WRITE", "DESCRIBE"),
                    )
                    for number in range(settings.partitions)
                ),
            ]
        case "auditor":
            own = Right("group", settings.results_group, ("READ",))  # of results tail
            needed = [*everywhere, *reads, *groups, own]
        case "producer":
            needed = [
                *everywhere,
                *_on_topics(topics.uploads, "READ"),  # the next version of a text
                *_on_topics((*topics.uploads, topics.requests), "WRITE"),
            ]
        case "operator":
            everything = ("CREATE", "ALTER", "ALTER_CONFIGS", "DELETE", "WRITE")
            prefix = f"{settings.topic_prefix}cjstream-"
            needed = [
                *everywhere,
                *reads,
                *_on_topics(topics.all, *everything),
                *(Right("group", name, ("READ",)) for name in _groups(settings)),
                Right("transactional-id", prefix, ("WRITE", "DESCRIBE"), is_prefix=True),
                Right("cluster", "kafka-cluster", ("CLUSTER_ACTION",)),  # topics abort-transaction
            ]
    return _merged(needed)


def missing_rights(process: Process, admin: AdminClient, settings: Settings) -> list[Right]:
    """What the user of this client lacks of a process's rights on topics and groups. Raises Unreachable.

    Kafka tells nobody the rights on transactional ids and the cluster.
    """
    needed = rights_of(process, settings)
    allowed = {
        "topic": _allowed_on_topics(admin, _names(needed, "topic")),
        "group": _allowed_on_groups(admin, _names(needed, "group")),
    }
    found = []
    for right in needed:
        if right.kind in allowed:
            has = allowed[right.kind].get(right.name, frozenset(right.operations))
            if lacks := tuple(one for one in right.operations if one not in has):
                found.append(Right(right.kind, right.name, lacks))
    return found


def require_rights(process: Process, admin: AdminClient, settings: Settings) -> None:
    """Raise Discrepancy, which names what the user lacks; asks nothing where nobody signs in. Raises Unreachable."""
    if settings.kafka.security_protocol == "PLAINTEXT":
        return
    if lacks := missing_rights(process, admin, settings):
        shown = "; ".join(map(str, lacks[:5])) + ("; …" if len(lacks) > 5 else "")
        raise Discrepancy(f"the {process}'s user lacks rights: {shown}. {REMEDY}")


def _worker_ids(settings: Settings) -> list[Right]:
    """The transactional ids of a worker."""
    own = transactional_id(settings)
    ids = (own, f"{own}-restore") if settings.slot else (own,)
    return [_own_id(settings, name, settings.prep_group) for name in ids]


def _own_id(settings: Settings, name: str, group: str) -> Right:
    """A process's transactional id; without a slot each start has a new one that begins with its group."""
    operations = ("WRITE", "DESCRIBE")
    if not settings.slot:
        return Right("transactional-id", f"{group}-", operations, is_prefix=True)
    return Right("transactional-id", name, operations)


def _worker_groups(settings: Settings) -> tuple[str, ...]:
    return settings.prep_group, settings.fold_group


def _groups(settings: Settings) -> tuple[str, ...]:
    return *_worker_groups(settings), settings.judge_group


def _on_topics(topics: Iterable[Topic], *operations: str) -> list[Right]:
    return [Right("topic", topic.name, operations) for topic in topics]


def _names(rights: Iterable[Right], kind: Kind) -> list[str]:
    return [right.name for right in rights if right.kind == kind]


def _merged(rights: Iterable[Right]) -> list[Right]:
    """One right for each resource, with all of its operations. READ and WRITE include DESCRIBE."""
    operations: dict[tuple[Kind, str, bool], list[str]] = {}
    for right in rights:
        known = operations.setdefault((right.kind, right.name, right.is_prefix), [])
        known += [one for one in right.operations if one not in known]
    return [
        Right(kind, name, tuple(found), is_prefix)
        for (kind, name, is_prefix), found in operations.items()
    ]


def _allowed_on_topics(admin: AdminClient, names: list[str]) -> Mapping[str, frozenset[str]]:
    futures = admin.describe_topics(
        TopicCollection(names),
        include_authorized_operations=True,
        request_timeout=REQUEST_TIMEOUT_S,
    )
    return dict(_allowed(futures))


def _allowed_on_groups(admin: AdminClient, names: list[str]) -> Mapping[str, frozenset[str]]:
    futures = admin.describe_consumer_groups(
        names, include_authorized_operations=True, request_timeout=REQUEST_TIMEOUT_S
    )
    return dict(_allowed(futures))


def _allowed(futures: Mapping[str, Any]) -> Iterator[tuple[str, frozenset[str]]]:
    """By resource, the operations that are allowed; a resource that does not exist is left out."""
    for name, future in futures.items():
        try:
            operations = result_of(future).authorized_operations
        except KafkaException as fault:
            error = fault.args[0].name()
            if error.endswith(DENIED):
                yield name, frozenset()
            elif fault.args[0].retriable():
                raise Unreachable(f"the rights on {name} are not known: {error}") from fault
            continue
        if operations is not None:
            yield name, frozenset(operation.name for operation in operations)
