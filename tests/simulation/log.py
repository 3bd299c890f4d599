"""Kafka in memory: partitions, transactions and their markers, producer epochs.

Only what batch preparation can tell from the real one: who is fenced, what is stable, what is visible when.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message

from schemas.coordinates import Partition

Headers = list[tuple[str, str | bytes | None]]
OFFSETS = Partition(
    "committed offsets", 0
)  # where a transaction's offsets lie; it has a marker too


def refused(
    code: int, *, fatal: bool = False, retriable: bool = False, abort: bool = False
) -> KafkaException:
    """An error as the client raises it: the marks decide what is to be done."""
    marks = {"fatal": fatal, "retriable": retriable, "txn_requires_abort": abort}
    return KafkaException(KafkaError(code, "simulated", **marks))


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction of one producer; it ends once, and then partition by partition."""

    opened_at: float
    targets: list[Partition] = field(default_factory=list)  # whose marker is still to come
    offsets: dict[Partition, tuple[int, int]] = field(default_factory=dict)  # position, order
    committed: bool | None = None  # None while it is open


class Stored(NamedTuple):
    """One record; order is its place among all appends of the cluster."""

    message: Message
    order: int
    transaction: Transaction | None


@dataclass(slots=True)
class PartitionLog:
    """One partition; None is a marker, or what compaction took away."""

    records: list[Stored | None] = field(default_factory=list)
    undecided: dict[Transaction, int] = field(default_factory=dict)  # first offset of each

    @property
    def high_watermark(self) -> int:
        return len(self.records)

    @property
    def last_stable(self) -> int:
        return min(self.undecided.values(), default=len(self.records))

    def read(self, offset: int) -> Stored | None:
        """The record there, unless it was aborted, or is none."""
        stored = self.records[offset]
        if stored is None or (stored.transaction and not stored.transaction.committed):
            return None
        return stored

    def committed(self) -> list[Stored]:
        """Every record that read-committed readers see."""
        return [one for at in range(self.last_stable) if (one := self.read(at))]

    def compact(self) -> None:
        """Take away every record that a newer one of its key follows; the last one stays."""
        newest = {one.message.key(): at for at in range(self.last_stable) if (one := self.read(at))}
        for at in range(self.last_stable):
            stored = self.records[at]
            if stored and newest.get(stored.message.key(), at) > at:
                self.records[at] = None


@dataclass(slots=True)
class Identity:
    """What the coordinator knows of one transactional id."""

    epoch: int = 0
    transaction: Transaction | None = None  # open, or its markers are still to come


class Cluster:
    """Every partition, every transactional id, the committed offsets of the one group."""

    def __init__(self, transaction_timeout_s: float) -> None:
        self.now_ms = 0
        self.now_s = 0.0
        self._timeout_s = transaction_timeout_s
        self._appends = 0
        self.logs: dict[Partition, PartitionLog] = {}
        self.identities: dict[str, Identity] = {}
        self.committed: dict[Partition, tuple[int, int]] = {}  # position, order of its append
        self.pending: list[Transaction] = []  # with offsets whose marker is still to come

    def log(self, at: Partition) -> PartitionLog:
        return self.logs.setdefault(at, PartitionLog())

    def append(
        self,
        at: Partition,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        transaction: Transaction | None = None,
    ) -> Stored:
        """Append one record, stamped by the broker's clock."""
        log = self.log(at)
        message = Message(
            topic=at.topic,
            partition=at.partition,
            offset=len(log.records),
            key=key,
            value=value,
            headers=headers,
            timestamp=(2, self.now_ms),
        )
        stored = Stored(message, self.next_order(), transaction)
        if transaction is not None:
            log.undecided.setdefault(transaction, len(log.records))
            self._touch(transaction, at)
        log.records.append(stored)
        return stored

    def next_order(self) -> int:
        """What happens now comes after all that happened."""
        self._appends += 1
        return self._appends

    def _touch(self, transaction: Transaction, at: Partition) -> None:
        if at not in transaction.targets:
            transaction.targets.append(at)

    # --- transactions

    def init(self, name: str) -> int:
        """A new epoch of a transactional id: its last transaction is over, all its markers there."""
        identity = self.identities.setdefault(name, Identity())
        identity.epoch += 1
        self._over(identity)
        return identity.epoch

    def _over(self, identity: Identity) -> None:
        if identity.transaction is None:
            return
        if identity.transaction.committed is None:
            self._end(identity, commit=False)
        self.write_markers(identity.transaction)
        identity.transaction = None

    def transaction_of(self, name: str, epoch: int) -> Transaction:
        """The open transaction of a producer, begun if there is none. Raises where it is fenced."""
        identity = self._checked(name, epoch)
        if identity.transaction is None or identity.transaction.committed is not None:
            self._over(identity)  # what the client waits for, at CONCURRENT_TRANSACTIONS
            identity.transaction = Transaction(self.now_s)
        return identity.transaction

    def _checked(self, name: str, epoch: int) -> Identity:
        identity = self.identities[name]
        if identity.epoch != epoch:
            raise refused(KafkaError._FENCED, fatal=True)
        return identity

    def end(self, name: str, epoch: int, *, commit: bool) -> Transaction | None:
        """Decide a producer's transaction; its markers come later. Raises where it is fenced."""
        identity = self._checked(name, epoch)
        if identity.transaction is not None and identity.transaction.committed is None:
            self._end(identity, commit=commit)
        return identity.transaction

    def _end(self, identity: Identity, *, commit: bool) -> None:
        assert identity.transaction is not None
        identity.transaction.committed = commit

    def expire(self) -> None:
        """Abort what was open for too long; its producer is fenced."""
        for identity in self.identities.values():
            one = identity.transaction
            if one and one.committed is None and self.now_s - one.opened_at >= self._timeout_s:
                identity.epoch += 1
                self._over(identity)

    def offsets(self, transaction: Transaction, positions: dict[Partition, int]) -> None:
        """Offsets become part of a transaction."""
        order = self.next_order()
        transaction.offsets.update({at: (position, order) for at, position in positions.items()})
        self._touch(transaction, OFFSETS)
        if transaction not in self.pending:
            self.pending.append(transaction)

    @property
    def undelivered(self) -> list[tuple[Transaction, Partition]]:
        """Markers of decided transactions that are still on their way."""
        return [
            (identity.transaction, at)
            for identity in self.identities.values()
            if identity.transaction and identity.transaction.committed is not None
            for at in identity.transaction.targets
        ]

    def write_markers(self, transaction: Transaction) -> None:
        """Every marker arrives."""
        for at in list(transaction.targets):
            self.write_marker(transaction, at)

    def write_marker(self, transaction: Transaction, at: Partition) -> None:
        """One marker arrives: here, the transaction is over."""
        transaction.targets.remove(at)
        if at == OFFSETS:
            self._settle_offsets(transaction)
            return
        log = self.log(at)
        del log.undecided[transaction]
        log.records.append(None)

    def _settle_offsets(self, transaction: Transaction) -> None:
        self.pending.remove(transaction)
        if not transaction.committed:
            return
        for at, (position, order) in transaction.offsets.items():
            if self.committed.get(at, (0, -1))[1] < order:
                self.committed[at] = (position, order)

    def is_stable(self, partitions: list[Partition]) -> bool:
        """Whether no transaction still holds offsets of these."""
        return not any(at in one.offsets for one in self.pending for at in partitions)
