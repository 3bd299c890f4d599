"""Open transactions on partitions: finds those that hang, and ends them by the messages of KIP-664."""

import itertools
import logging
import struct
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import for_code
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
)
from aiokafka.structs import TopicPartition

from processors.kafka.admin_protocol import (
    NO_TAGS,
    TAGS,
    TEXT,
    Prepared,
    array_of,
    message,
    run_on_client,
)
from processors.kafka.bounded_wait import wait_until
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import CJStreamError, Unreachable

log = logging.getLogger("cjstream.transactions")
T = TypeVar("T")
OFFSETS_TOPIC, STATE_TOPIC = "__consumer_offsets", "__transaction_state"
ONGOING, COMMITTING, ABORTING, FENCING = (
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "PrepareEpochFence",
)
LOGGED_STATES = {2: COMMITTING, 3: ABORTING}  # as numbers in the coordinator's log
NOT_FOUND = {3, 105}  # UNKNOWN_TOPIC_OR_PARTITION, TRANSACTIONAL_ID_NOT_FOUND
BUSY = {14, 15, 16, 51}  # coordinator loading, not available or moved; a transaction is being ended
RETRIABLE = {*BUSY, 5, 6, 7}  # no leader, not the leader, timed out
ENDED_WITHIN_S = 15.0
FENCE_TIMEOUT_MS = 10_000

LIST_TRANSACTIONS = message(
    "ListTransactions",
    66,
    0,
    (("state_filters", CompactArray(TEXT)), ("producer_id_filters", CompactArray(Int64))),
    (
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_state_filters", CompactArray(TEXT)),
        (
            "transactions",
            array_of(("transactional_id", TEXT), ("producer_id", Int64), ("state", TEXT)),
        ),
    ),
)
DESCRIBE_TRANSACTIONS = message(
    "DescribeTransactions",
    65,
    0,
    (("transactional_ids", CompactArray(TEXT)),),
    (
        ("throttle_time_ms", Int32),
        (
            "transactions",
            array_of(
                ("error_code", Int16),
                ("transactional_id", TEXT),
                ("state", TEXT),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("topics", array_of(("topic", TEXT), ("partitions", CompactArray(Int32)))),
            ),
        ),
    ),
)
DESCRIBE_PRODUCERS = message(
    "DescribeProducers",
    61,
    0,
    (("topics", array_of(("topic", TEXT), ("partitions", CompactArray(Int32)))),),
    (
        ("throttle_time_ms", Int32),
        (
            "topics",
            array_of(
                ("topic", TEXT),
                (
                    "partitions",
                    array_of(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", TEXT),
                        (
                            "producers",
                            array_of(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp_ms", Int64),
                                ("coordinator_epoch", Int32),
                                ("start_offset", Int64),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    ),
)
WRITE_TXN_MARKERS = message(
    "WriteTxnMarkers",
    27,
    1,
    (
        (
            "markers",
            array_of(
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("is_commit", Boolean),
                ("topics", array_of(("topic", TEXT), ("partitions", CompactArray(Int32)))),
                ("coordinator_epoch", Int32),
            ),
        ),
    ),
    (
        (
            "markers",
            array_of(
                ("producer_id", Int64),
                (
                    "topics",
                    array_of(
                        ("topic", TEXT),
                        ("partitions", array_of(("partition", Int32), ("error_code", Int16))),
                    ),
                ),
            ),
        ),
    ),
)


def _logged_value(text: Any, array: type, *tags: tuple[str, Any]) -> Schema:
    partitions = array(("topic", text), ("partitions", array(Int32)), *tags)
    return Schema(
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("timeout_ms", Int32),
        ("state", Int8),
        ("topics", partitions),
        ("updated_at_ms", Int64),
        ("start_time_ms", Int64),
        *tags,
    )


LOGGED_VALUES = {  # by version: records of the coordinator's log
    0: _logged_value(String("utf-8"), Array),
    1: _logged_value(TEXT, CompactArray, TAGS),
}


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that is open on a partition, and what its coordinator knows of it."""

    partition: Partition
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    start_offset: int
    last_record_ms: int
    transactional_id: str  # "" if no coordinator knows the producer; then state is "", too
    state: str  # of the producer's last transaction
    ongoing_since_ms: int | None  # None if the coordinator has no such transaction on the partition

    def __str__(self) -> str:
        owner = (
            f"transactional id {self.transactional_id or 'unknown'}, producer id {self.producer_id}"
        )
        state = "not at its coordinator" if self.ongoing_since_ms is None else self.state
        return f"{self.partition}@{self.start_offset}: {owner}, {state}"

    @property
    def since_ms(self) -> int:
        """When it began; if the coordinator has no such transaction, when its last record was appended."""
        return self.last_record_ms if self.ongoing_since_ms is None else self.ongoing_since_ms

    @property
    def is_ongoing(self) -> bool:
        """Whether its producer can still write to it, commit it or abort it."""
        return self.state == ONGOING and self.ongoing_since_ms is not None

    def hangs(self, now_ms: int, max_open_s: float) -> bool:
        """Whether its coordinator will never end it, or has let it stay open for too long."""
        return self.ongoing_since_ms is None or now_ms - self.ongoing_since_ms > max_open_s * 1000


class LoggedDecision(NamedTuple):
    """A coordinator's decision to commit or abort a transaction, as a record of its log."""

    producer_id: int
    producer_epoch: int
    is_commit: bool
    partitions: frozenset[Partition]


def open_transactions(
    settings: Settings, partitions: Iterable[Partition], groups: Iterable[str] = ()
) -> list[OpenTransaction]:
    """The open transactions on these partitions and on the partitions with the offsets of these groups.

    Raises Unreachable, or CJStreamError if a broker refuses to answer.
    """
    wanted, named = frozenset(partitions), tuple(groups)

    async def find(cluster: _Cluster) -> list[OpenTransaction]:
        found = await cluster.open_transactions(wanted | cluster.offsets_partitions(named))
        doubtful = {_identity(one) for one in found if one.ongoing_since_ms is None}
        if doubtful:  # it may have ended, or its coordinator moved, between the two requests
            again = await cluster.open_transactions({partition for partition, *_ in doubtful})
            confirmed = {_identity(one) for one in again if one.ongoing_since_ms is None}
            found = [
                one
                for one in found
                if _identity(one) not in doubtful or _identity(one) in confirmed
            ]
        return sorted(found, key=_identity)

    return _run(settings, find)


def leftover_transactions(
    settings: Settings,
    transactional_id: str,
    partitions: Iterable[Partition],
    groups: Iterable[str] = (),
) -> list[OpenTransaction]:
    """The transactions of this id that are open on these partitions, but not at their coordinator.

    The id must have no open transaction otherwise. Raises like `open_transactions`, and Unreachable if a partition has
    no leader.
    """
    wanted, named = frozenset(partitions), tuple(groups)

    async def find(cluster: _Cluster) -> list[OpenTransaction]:
        every = wanted | cluster.offsets_partitions(named)
        cluster.require_leaders(every)
        return [
            one
            for one in await cluster.open_transactions(every)
            if one.transactional_id == transactional_id and one.ongoing_since_ms is None
        ]

    return _run(settings, find)


def open_transactions_or_none(
    settings: Settings, partitions: Iterable[Partition], groups: Iterable[str] = ()
) -> list[OpenTransaction]:
    """Like `open_transactions`, but none while brokers do not answer, or refuse to."""
    try:
        return open_transactions(settings, partitions, groups)
    except CJStreamError as fault:
        log.info("open transactions are not known", extra={"reason": str(fault)})
        return []


def hanging_transactions(
    settings: Settings, group: str, partitions: Iterable[Partition]
) -> list[str]:
    """The transactions on these partitions and on the group's offsets that hang, for the log."""
    now_ms = round(time.time() * 1000)
    found = open_transactions_or_none(settings, partitions, [group])
    return [str(one) for one in found if one.hangs(now_ms, settings.transaction_timeout_s)]


def end_transaction(settings: Settings, transaction: OpenTransaction, *, commit: bool) -> bool:
    """End an open transaction on its partition; whether it has ended.

    If its producer can still write to it, the producer is fenced, and the coordinator aborts the transaction on all its
    partitions. Otherwise its marker is written: `commit` must then be what the coordinator has decided. Raises like
    `open_transactions`.
    """

    async def end(cluster: _Cluster) -> None:
        if transaction.is_ongoing:
            await cluster.fence(transaction.transactional_id)
        else:
            await cluster.write_marker(transaction, commit=commit)

    def has_ended() -> bool:
        found = _run(settings, lambda cluster: cluster.open_transactions([transaction.partition]))
        return _identity(transaction) not in map(_identity, found)

    _run(settings, end)
    try:
        return wait_until(has_ended, seconds=ENDED_WITHIN_S, what="its marker", every_s=0.2)
    except Unreachable:
        return False


def logged_decision(value: bytes) -> LoggedDecision | None:
    """The decision in a record of `__transaction_state`; None if the record is about something else."""
    schema = LOGGED_VALUES.get(int.from_bytes(value[:2], "big")) if value else None
    if schema is None:
        return None
    try:
        fields = dict(zip(schema.names, schema.decode(BytesIO(value[2:])), strict=True))
    except (ValueError, struct.error) as fault:
        raise CJStreamError("a record of the transaction coordinator cannot be read") from fault
    state = LOGGED_STATES.get(fields["state"])
    if state is None:
        return None
    partitions = _partitions_in((topic, numbers) for topic, numbers, *_ in fields["topics"] or ())
    return LoggedDecision(
        fields["producer_id"], fields["producer_epoch"], state == COMMITTING, partitions
    )


def described(
    partition: Partition, producer: Mapping[str, Any], known: Mapping[str, Any] | None
) -> OpenTransaction:
    """An open transaction from its producer on the partition, and the producer's transaction at its coordinator."""
    return OpenTransaction(
        partition,
        producer["producer_id"],
        producer["producer_epoch"],
        producer["coordinator_epoch"],
        producer["start_offset"],
        producer["last_timestamp_ms"],
        known["transactional_id"] if known else "",
        known["state"] if known else "",
        known["start_time_ms"] if known and _is_ongoing(partition, producer, known) else None,
    )


def internal_partition(name: str, count: int) -> int:
    """The partition of `__consumer_offsets` or `__transaction_state` with a group or transactional id.

    Java's `String.hashCode()`, without its sign.
    """
    code = 0
    for unit in memoryview(name.encode("utf-16-le")).cast("H"):
        code = (31 * code + unit) & 0xFFFFFFFF
    signed = code - (1 << 32) if code & 0x80000000 else code
    return (0 if signed == -(1 << 31) else abs(signed)) % count


@cache
def _id_in_each_partition(count: int) -> Mapping[int, str]:
    """A transactional id that nobody uses, for each partition of `__transaction_state`."""
    found = dict[int, str]()
    names = (f"cjstream-probe-{number}" for number in itertools.count())
    while len(found) < count:
        name = next(names)
        found.setdefault(internal_partition(name, count), name)
    return found


class _Cluster:
    """The brokers, as one connected client sees them."""

    def __init__(self, client: Any, metadata: ClusterMetadata) -> None:
        self._client = client
        self._metadata = metadata

    def offsets_partitions(self, groups: Collection[str]) -> frozenset[Partition]:
        count = len(self._metadata.partitions_for_topic(OFFSETS_TOPIC) or ())
        numbers = {internal_partition(group, count) for group in groups} if count else ()
        return frozenset(Partition(OFFSETS_TOPIC, number) for number in numbers)

    def require_leaders(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            leader = self._metadata.leader_for_partition(TopicPartition(*partition))
            if leader is None or leader < 0:
                raise Unreachable(f"{partition} has no leader")

    async def open_transactions(self, partitions: Collection[Partition]) -> list[OpenTransaction]:
        producers = [
            (partition, producer)
            for partition, all_of_it in (await self._producers(partitions)).items()
            for producer in all_of_it
            if producer["start_offset"] >= 0
        ]
        ids = {producer["producer_id"] for _, producer in producers}
        known = await self._transactions(ids) if ids else {}
        return [
            described(partition, producer, known.get(producer["producer_id"]))
            for partition, producer in producers
        ]

    async def _producers(
        self, partitions: Collection[Partition]
    ) -> dict[Partition, list[dict[str, Any]]]:
        """The producers of each partition that exists and has a leader."""
        by_leader = dict[int, dict[str, list[int]]]()
        for partition in partitions:
            leader = self._metadata.leader_for_partition(TopicPartition(*partition))
            if leader is not None and leader >= 0:
                numbers = by_leader.setdefault(leader, {}).setdefault(partition.topic, [])
                numbers.append(partition.partition)
        found = {}
        for leader, topics in by_leader.items():
            request = DESCRIBE_PRODUCERS([(*topic, NO_TAGS) for topic in topics.items()], NO_TAGS)
            for topic in (await self._ask(leader, request))["topics"]:
                for answer in topic["partitions"]:
                    partition = Partition(topic["topic"], answer["partition"])
                    if answer["error_code"] not in NOT_FOUND:
                        _check(answer["error_code"], f"the producers of {partition}")
                        found[partition] = answer["producers"]
        return found

    async def _transactions(self, producer_ids: Collection[int]) -> dict[int, dict[str, Any]]:
        """The coordinator's description of each producer's transaction."""
        found = {}
        for leader, probes in self._coordinators().items():
            # one that has not loaded its transactions yet lists none without an error, but refuses to describe one
            await self._described(leader, probes)
            listed = await self._ask(leader, LIST_TRANSACTIONS([], [*producer_ids], NO_TAGS))
            _check(listed["error_code"], "the transactions of a broker")
            names = [transaction["transactional_id"] for transaction in listed["transactions"]]
            for transaction in await self._described(leader, names):
                found[transaction["producer_id"]] = transaction
        return found

    def _coordinators(self) -> dict[int, list[str]]:
        """Every transaction coordinator, with an unused transactional id for each partition of its log."""
        numbers = self._metadata.partitions_for_topic(STATE_TOPIC) or ()
        unused = _id_in_each_partition(len(numbers))
        coordinators = dict[int, list[str]]()
        for number in numbers:
            leader = self._metadata.leader_for_partition(TopicPartition(STATE_TOPIC, number))
            coordinators.setdefault(-1 if leader is None else leader, []).append(unused[number])
        if not coordinators or -1 in coordinators:
            raise Unreachable("a transaction coordinator has no leader")
        return coordinators

    async def _described(self, leader: int, names: list[str]) -> list[dict[str, Any]]:
        """The transactions with these ids that the coordinator knows. Raises Unreachable if it has not loaded them."""
        described = await self._ask(leader, DESCRIBE_TRANSACTIONS(names, NO_TAGS))
        known = [one for one in described["transactions"] if one["error_code"] not in NOT_FOUND]
        for transaction in known:
            _check(transaction["error_code"], f"transactional id {transaction['transactional_id']}")
        return known

    async def fence(self, transactional_id: str) -> None:
        """Fence the producer; its coordinator aborts the transaction."""
        coordinator = await self._client.coordinator_lookup(
            CoordinationType.TRANSACTION, transactional_id
        )
        request = InitProducerIdRequest(transactional_id, FENCE_TIMEOUT_MS)
        answer = (await self._client.send(coordinator, request)).to_object()
        if answer["error_code"] not in BUSY:  # it aborts the transaction first: that is enough
            _check(answer["error_code"], f"fencing {transactional_id}")

    async def write_marker(self, transaction: OpenTransaction, *, commit: bool) -> None:
        """Write the commit or abort marker of a transaction to its partition."""
        topic, number = transaction.partition
        leader = self._metadata.leader_for_partition(TopicPartition(topic, number))
        if leader is None or leader < 0:
            raise Unreachable(f"{transaction.partition} has no leader")
        marker = (
            transaction.producer_id,
            transaction.producer_epoch,
            commit,
            [(topic, [number], NO_TAGS)],
            max(0, transaction.coordinator_epoch),  # -1: no marker of the producer was written yet
            NO_TAGS,
        )
        answer = await self._ask(leader, WRITE_TXN_MARKERS([marker], NO_TAGS))
        for written in answer["markers"]:
            for of_topic in written["topics"]:
                for of_partition in of_topic["partitions"]:
                    _check(of_partition["error_code"], f"a marker in {transaction.partition}")

    async def _ask(self, node: int, request: Any) -> Any:
        return (await self._client.send(node, Prepared(request))).to_object()


def _is_ongoing(
    partition: Partition, producer: Mapping[str, Any], known: Mapping[str, Any]
) -> bool:
    """Whether the coordinator still has to end this transaction of the producer on the partition."""
    topics = ((topic["topic"], topic["partitions"]) for topic in known["topics"])
    if partition not in _partitions_in(topics):
        return False
    if known["state"] == ONGOING:
        return bool(known["producer_epoch"] == producer["producer_epoch"])
    return known["state"] in {COMMITTING, ABORTING, FENCING}  # which may raise the epoch


def _partitions_in(topics: Iterable[tuple[str, Iterable[int]]]) -> frozenset[Partition]:
    return frozenset(Partition(topic, number) for topic, numbers in topics for number in numbers)


def _identity(transaction: OpenTransaction) -> tuple[Partition, int, int, int]:
    return (
        transaction.partition,
        transaction.producer_id,
        transaction.producer_epoch,
        transaction.start_offset,
    )


def _check(code: int, what: str) -> None:
    if code in RETRIABLE:
        raise Unreachable(f"{what}: no answer yet ({for_code(code).__name__})")
    if code:
        raise CJStreamError(f"{what}: the broker refuses ({for_code(code).__name__}, {code})")


def _run(settings: Settings, work: Callable[[_Cluster], Awaitable[T]]) -> T:
    """Run requests on a new client. Raises Unreachable if no broker answers."""

    async def connected(client: AIOKafkaClient) -> T:
        return await work(_Cluster(client, await client.fetch_all_metadata()))

    return run_on_client(settings, connected, "transactions")
