"""Kafka in memory: partitions, transactions and their markers, producer epochs.

It models only what batch preparation can observe: who is fenced, what is stable, and when records become visible.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message

from schemas.coordinates import Partition

Headers = list[tuple[str, str | bytes | None]]
# stands for the partition of committed offsets, in which a transaction also writes a marker
OFFSETS = Partition("committed offsets", 0)


def refused(
    code: int, *, fatal: bool = False, retriable: bool = False, abort: bool = False
) -> KafkaException:
    """An error as the client raises it; its marks decide how to react."""
    marks = {"fatal": fatal, "retriable": retriable, "txn_requires_abort": abort}
    return KafkaException(KafkaError(code, "simulated", **marks))


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction of one producer; it is decided once, then each partition gets its marker."""

    opened_at: float
    targets: list[Partition] = field(default_factory=list)  # partitions without a marker so far
    offsets: dict[Partition, tuple[int, int]] = field(default_factory=dict)  # position, order
    committed: bool | None = None  # None while it is open


class Stored(NamedTuple):
    """One record; order is its position among all appends of the cluster."""

    message: Message
    order: int
    transaction: Transaction | None


@dataclass(slots=True)
class PartitionLog:
    """One partition; None is a marker, or a record that compaction removed."""

    records: list[Stored | None] = field(default_factory=list)
    undecided: dict[Transaction, int] = field(default_factory=dict)  # first offset of each

    @property
    def high_watermark(self) -> int:
        return len(self.records)

    @property
    def last_stable(self) -> int:
        return min(self.undecided.values(), default=len(self.records))

    def read(self, offset: int) -> Stored | None:
        """The committed record at this offset; None if there is none."""
        stored = self.records[offset]
        if stored is None or (stored.transaction and not stored.transaction.committed):
            return None
        return stored

    def committed(self) -> list[Stored]:
        """Every record that read_committed consumers can see."""
        return [stored for offset in range(self.last_stable) if (stored := self.read(offset))]

    def compact(self) -> None:
        """Remove every record with a newer record of the same key."""
        newest = {
            stored.message.key(): offset
            for offset in range(self.last_stable)
            if (stored := self.read(offset))
        }
        for offset in range(self.last_stable):
            record = self.records[offset]
            if record and newest.get(record.message.key(), offset) > offset:
                self.records[offset] = None


@dataclass(slots=True)
class Identity:
    """The coordinator's state of one transactional id."""

    epoch: int = 0
    transaction: Transaction | None = None  # open, or decided with missing markers


class Cluster:
    """Every partition, every transactional id, and the committed offsets of the only group."""

    def __init__(self, transaction_timeout_s: float) -> None:
        self.now_ms = 0
        self.now_s = 0.0
        self._timeout_s = transaction_timeout_s
        self._appends = 0
        self.logs: dict[Partition, PartitionLog] = {}
        self.identities: dict[str, Identity] = {}
        self.committed: dict[Partition, tuple[int, int]] = {}  # position, order of its append
        self.pending: list[Transaction] = []  # with offsets, but without their marker

    def log(self, partition: Partition) -> PartitionLog:
        return self.logs.setdefault(partition, PartitionLog())

    def append(
        self,
        partition: Partition,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        transaction: Transaction | None = None,
    ) -> Stored:
        """Append one record with the append time of the broker's clock."""
        log = self.log(partition)
        message = Message(
            topic=partition.topic,
            partition=partition.partition,
            offset=len(log.records),
            key=key,
            value=value,
            headers=headers,
            timestamp=(2, self.now_ms),
        )
        stored = Stored(message, self.next_order(), transaction)
        if transaction is not None:
            log.undecided.setdefault(transaction, len(log.records))
            self._touch(transaction, partition)
        log.records.append(stored)
        return stored

    def next_order(self) -> int:
        """The next number in the order of all events; it is greater than all before."""
        self._appends += 1
        return self._appends

    def _touch(self, transaction: Transaction, partition: Partition) -> None:
        if partition not in transaction.targets:
            transaction.targets.append(partition)

    # --- transactions

    def init(self, name: str) -> int:
        """Start a new epoch of a transactional id: its last transaction ends, with all its markers."""
        identity = self.identities.setdefault(name, Identity())
        identity.epoch += 1
        self._finish(identity)
        return identity.epoch

    def _finish(self, identity: Identity) -> None:
        if identity.transaction is None:
            return
        if identity.transaction.committed is None:
            self._end(identity, commit=False)
        self.write_markers(identity.transaction)
        identity.transaction = None

    def transaction_of(self, name: str, epoch: int) -> Transaction:
        """The open transaction of a producer; a new one if there is none. Raises if the producer is fenced."""
        identity = self._checked(name, epoch)
        if identity.transaction is None or identity.transaction.committed is not None:
            self._finish(identity)  # the real client waits for this, at CONCURRENT_TRANSACTIONS
            identity.transaction = Transaction(self.now_s)
        return identity.transaction

    def _checked(self, name: str, epoch: int) -> Identity:
        identity = self.identities[name]
        if identity.epoch != epoch:
            raise refused(KafkaError._FENCED, fatal=True)
        return identity

    def end(self, name: str, epoch: int, *, commit: bool) -> Transaction | None:
        """Commit or abort a producer's transaction; its markers are written later. Raises if the producer is fenced."""
        identity = self._checked(name, epoch)
        if identity.transaction is not None and identity.transaction.committed is None:
            self._end(identity, commit=commit)
        return identity.transaction

    def _end(self, identity: Identity, *, commit: bool) -> None:
        assert identity.transaction is not None
        identity.transaction.committed = commit

    def expire(self) -> None:
        """Abort transactions that are open for too long, and fence their producers."""
        for identity in self.identities.values():
            transaction = identity.transaction
            if (
                transaction
                and transaction.committed is None
                and self.now_s - transaction.opened_at >= self._timeout_s
            ):
                identity.epoch += 1
                self._finish(identity)

    def add_offsets(self, transaction: Transaction, positions: dict[Partition, int]) -> None:
        """Add offsets to a transaction."""
        order = self.next_order()
        transaction.offsets.update(
            {partition: (position, order) for partition, position in positions.items()}
        )
        self._touch(transaction, OFFSETS)
        if transaction not in self.pending:
            self.pending.append(transaction)

    @property
    def unwritten_markers(self) -> list[tuple[Transaction, Partition]]:
        """The markers of decided transactions that are not yet written."""
        return [
            (identity.transaction, partition)
            for identity in self.identities.values()
            if identity.transaction and identity.transaction.committed is not None
            for partition in identity.transaction.targets
        ]

    def write_markers(self, transaction: Transaction) -> None:
        """Write every missing marker."""
        for partition in list(transaction.targets):
            self.write_marker(transaction, partition)

    def write_marker(self, transaction: Transaction, partition: Partition) -> None:
        """Write one marker: in this partition, the transaction ends."""
        transaction.targets.remove(partition)
        if partition == OFFSETS:
            self._apply_offsets(transaction)
            return
        log = self.log(partition)
        del log.undecided[transaction]
        log.records.append(None)

    def _apply_offsets(self, transaction: Transaction) -> None:
        self.pending.remove(transaction)
        if not transaction.committed:
            return
        for partition, (position, order) in transaction.offsets.items():
            if self.committed.get(partition, (0, -1))[1] < order:
                self.committed[partition] = (position, order)

    def is_stable(self, partitions: list[Partition]) -> bool:
        """Whether no transaction has offsets of these partitions that still lack their marker."""
        return not any(
            partition in transaction.offsets
            for transaction in self.pending
            for partition in partitions
        )
