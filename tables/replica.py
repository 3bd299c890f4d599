"""The context replica: a full local copy of every scope's context, built from the upload topics alone.

One thread folds, other threads read. Rows and positions are written in one batch: they agree even after a kill, and a
restart continues from the positions that belong to the rows.

A row is the newest upload of one role at one scope, in its own bytes; those of a scope are folded when its context is
read. So an upload is written without reading or encoding anything.
Key of a row: `r`, scope key, a byte 0, the role's number (1 byte). Value: partition (4), offset (8), append time (8),
payload. Key of metadata: `n`, name.
"""

import struct
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import add
from typing import NamedTuple

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import BadRecord, Discrepancy, Malformed, ReplicaDamaged, UnknownSchema
from schemas.events import ADMINISTERED_ROLES, AssignmentContext, UploadEvent
from tables.context import FOLD_VERSION, fold
from tables.scan.plain import PLAIN_ENGINE
from tables.scan.scanner import Engine
from tables.store import Store
from tables.upload_batch import UploadBatch
from tables.upload_check import UploadCheck
from tables.upload_record import UploadRecord, UploadTopics, read_upload

CACHED_CONTEXTS = 20_000
ROWS_VERSION = f"{FOLD_VERSION}.1"  # of the fold, and of the format of rows
DAMAGED = "damaged"  # in place of a version: the rows are dropped at the next start
ROW, AFTER_ROWS = b"r", b"s"
METADATA, AFTER_METADATA = b"n", b"o"
SUFFIX_OF = {role: bytes((0, number)) for number, role in enumerate(ADMINISTERED_ROLES)}
SUFFIX_BYTES = 2
AFTER_SUFFIXES = b"\1"
HEAD = struct.Struct(">iqq")
# rows have the fixed schema ids, so that they stay readable whatever ids a registry gives
ROW_CODEC = Codec()


class StoppedAt(NamedTuple):
    """The upload at which the fold of a partition stopped, and why; set it aside, or deploy a later release."""

    record: UploadRecord
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaMetadata:
    """The positions up to which uploads are in the rows, the topics they came from, and the version of the rows."""

    positions: Positions
    topic_ids: Mapping[str, str]
    rows_version: str | None


def read_metadata(store: Store) -> ReplicaMetadata:
    """The metadata of a stored replica; empty if there is none."""
    stored = store.ascending(METADATA, AFTER_METADATA)
    found = {key[1:].decode(): value.decode() for key, value in stored}
    return ReplicaMetadata(
        {_partition(name): int(end) for name, end in _named(found, "position:")},
        dict(_named(found, "topic_id:")),
        found.get("rows_version", found.get("fold_version")),
    )


def read_contexts(
    store: Store, topics: UploadTopics, is_wanted: Callable[[bytes], bool] = lambda key: True
) -> Iterator[tuple[bytes, AssignmentContext | BadRecord]]:
    """The scope keys that are wanted, in their order, and their contexts; the fault of a row that cannot be read."""
    rows = store.ascending(ROW, AFTER_ROWS)
    suffixes = suffixes_of(topics).values()
    for key, of_scope in groupby(rows, key=lambda row: row[0][len(ROW) : -SUFFIX_BYTES]):
        if is_wanted(key):
            by_suffix = {row_key[-SUFFIX_BYTES:]: row for row_key, row in of_scope}
            try:
                context = _context([by_suffix.get(suffix) for suffix in suffixes], topics)
            except BadRecord as fault:
                yield key, fault
            else:
                if context is not None:
                    yield key, context


def suffixes_of(topics: UploadTopics) -> dict[str, bytes]:
    """The end of the row keys of each topic's role, by the topic's name."""
    return {topic: SUFFIX_OF[role] for topic, role in topics.roles.items()}


def _context(rows: Sequence[bytes | None], topics: UploadTopics) -> AssignmentContext | None:
    """The context of one scope from its rows, one per topic. Raises Malformed, UnknownSchema."""
    folded: dict[str, AssignmentContext] = {}
    for topic, row in zip(topics.by_name, rows, strict=True):
        if row is None:
            continue
        if len(row) < HEAD.size:
            raise Malformed("a damaged row in the replica")
        partition, offset, appended_at_ms = HEAD.unpack_from(row)
        event = ROW_CODEC.decode(row[HEAD.size :])
        if not isinstance(event, UploadEvent):
            raise Malformed("a row in the replica that is not an upload")
        fold(folded, event, Coordinates(topic, partition, offset), appended_at_ms)
    return next(iter(folded.values()), None)


class ContextReplica:
    """The context of every scope, and the position up to which each upload partition has been folded.

    on_changed is called with the scope keys that a fold has changed; nothing else is folded until it returns.
    """

    def __init__(
        self,
        store: Store,
        codec: Codec,
        topics: UploadTopics,
        on_changed: Callable[[Collection[str]], None] | None = None,
        engine: Engine = PLAIN_ENGINE,
    ) -> None:
        self._store = store
        self._codec = codec
        self._check = UploadCheck(codec, topics, engine)
        self._set_aside: set[Coordinates] = set()
        # for other folds in this process, too: they skip the records that this one skips
        self.topics = replace(topics, is_set_aside=self._set_aside.__contains__)
        self._suffixes = suffixes_of(topics)
        self.on_changed = on_changed
        self._cache: dict[str, AssignmentContext | None] = {}
        # held while rows and positions change, or must not change
        self._fold_lock = threading.RLock()
        self._advanced = threading.Condition()
        self._positions: dict[Partition, int] = {}
        self._stopped: dict[Partition, StoppedAt] = {}

    def open(self, topic_ids: Mapping[str, str]) -> Positions:
        """Open the stored rows; returns the positions to continue from, or {} if there are no rows.

        Rows of another version are dropped. Raises Discrepancy if an upload topic was recreated since the rows were
        folded from it.
        """
        metadata = read_metadata(self._store)
        if metadata.rows_version not in (None, ROWS_VERSION):
            self._store.clear()
            metadata = ReplicaMetadata({}, {}, None)
        for topic, topic_id in topic_ids.items():
            known = metadata.topic_ids.get(topic, topic_id)
            if known != topic_id:
                raise Discrepancy(
                    f"topic {topic} was recreated (its id was {known}, now it is {topic_id}) after the replica "
                    "was built from it: delete the replica's folder, then the replica is rebuilt"
                )
        named_ids = {f"topic_id:{topic}": topic_id for topic, topic_id in topic_ids.items()}
        self._store.write(_metadata_rows({**named_ids, "rows_version": ROWS_VERSION}))
        self._positions = dict(metadata.positions)
        return dict(self._positions)

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The context of one scope; the same object while it is unchanged and in the cache. Raises ReplicaDamaged."""
        try:
            return self._cache[scope_key]
        except KeyError:
            with (
                self._fold_lock
            ):  # else a fold between read and put would leave an old row in the cache
                return self._remember(scope_key, self._read(scope_key))

    def contexts_of(self, keys: Collection[bytes]) -> dict[bytes, AssignmentContext]:
        """The contexts of these scope keys, by key; they may be of different positions. Raises ReplicaDamaged."""
        in_order, roles = list(keys), len(self._suffixes)
        rows = self.rows_of(in_order)
        contexts = (
            self._context_in(rows[number : number + roles]) for number in range(0, len(rows), roles)
        )
        return {
            key: context
            for key, context in zip(in_order, contexts, strict=True)
            if context is not None
        }

    def rows_of(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The rows of these scope keys, one per topic for each; None where there is none."""
        suffixes = self._suffixes.values()
        return self._store.read([ROW + key + suffix for key in keys for suffix in suffixes])

    def newest_upload(self, scope_key: str, topic: str) -> tuple[int, bytes] | None:
        """Offset and payload of the newest upload of a scope in one upload topic."""
        (row,) = self._store.read([b"".join((ROW, scope_key.encode(), self._suffixes[topic]))])
        return None if row is None else (HEAD.unpack_from(row)[1], row[HEAD.size :])

    def contexts(self) -> Iterator[AssignmentContext]:
        """Every context, in the order of scope keys; the caller makes sure that nothing is folded meanwhile.

        Raises ReplicaDamaged.
        """
        for _, context in read_contexts(self._store, self.topics):
            if isinstance(context, BadRecord):
                raise self._damaged(context) from context
            yield context

    def scope_keys(self, after: str, limit: int) -> list[str]:
        """Up to `limit` scope keys that follow this one; from the first on, if it is empty."""
        first = ROW + after.encode() + (AFTER_SUFFIXES if after else b"")
        rows = self._store.ascending(first, AFTER_ROWS)
        keys = (key[len(ROW) : -SUFFIX_BYTES].decode() for key, _ in rows)
        return list(islice((key for key, _ in groupby(keys)), limit))

    def _read(self, scope_key: str) -> AssignmentContext | None:
        return self._context_in(self.rows_of([scope_key.encode()]))

    def _context_in(self, rows: Sequence[bytes | None]) -> AssignmentContext | None:
        try:
            return _context(rows, self.topics)
        except BadRecord as fault:
            raise self._damaged(fault) from fault

    def _damaged(self, fault: BadRecord) -> ReplicaDamaged:
        """The error for a row that cannot be read: no fault of the request or upload that needs it."""
        self._store.write(_metadata_rows({"rows_version": DAMAGED}))
        return ReplicaDamaged(fault)

    def _remember(
        self, scope_key: str, context: AssignmentContext | None
    ) -> AssignmentContext | None:
        if len(self._cache) >= CACHED_CONTEXTS:
            self._cache.clear()
        self._cache[scope_key] = context
        return context

    def fold(
        self, records: Iterable[UploadRecord], positions: Positions
    ) -> list[tuple[UploadRecord, Malformed]]:
        """Fold a few records; see `fold_batch`."""
        return self.fold_batch(UploadBatch.of(records), positions)

    def fold_batch(
        self, batch: UploadBatch, positions: Positions
    ) -> list[tuple[UploadRecord, Malformed]]:
        """Fold records and store the new positions in one write; returns the records that are not valid uploads.

        Records are in log order, partition by partition; those below the positions are in the rows already. An upload
        that a later release may have written stops its partition, and the position stays there, until `resume`.
        """
        numbers, invalid, stopped = self._uploads_in(batch)
        uploads = batch if len(numbers) == len(batch.keys) else batch.only(numbers)
        keys = [key or b"" for key in uploads.keys]
        row_keys = [
            ROW + key + suffix
            for key, suffix in zip(
                keys, map(self._suffixes.__getitem__, uploads.topics), strict=True
            )
        ]
        heads = map(HEAD.pack, uploads.partitions, uploads.offsets, uploads.times_ms)
        payloads = self._codec.with_fixed_ids([value or b"" for value in uploads.values])
        rows = dict(zip(row_keys, map(add, heads, payloads), strict=True))
        changed = dict.fromkeys(key.decode() for key in keys)
        positions = _before(stopped, positions)
        positions_by_name = {
            f"position:{partition.topic}/{partition.partition}": str(end)
            for partition, end in positions.items()
        }
        with self._fold_lock:
            rows.update(_metadata_rows(positions_by_name))
            self._store.write(rows)
            for scope_key in changed:
                self._cache.pop(scope_key, None)
            if self.on_changed is not None and changed:
                self.on_changed(changed.keys())
            with self._advanced:  # last: a thread woken by it finds rows and callbacks done
                if stopped != self._stopped:  # nothing waits for a stopped partition
                    self._stopped = stopped
                    self._advanced.notify_all()
                self.advance(positions)
        return invalid

    def _uploads_in(
        self, batch: UploadBatch
    ) -> tuple[Sequence[int], list[tuple[UploadRecord, Malformed]], dict[Partition, StoppedAt]]:
        """The numbers of the uploads to fold, the records that are none, and where the fold has stopped then."""
        numbers, stopped = list[int](), dict(self._stopped)
        invalid = list[tuple[UploadRecord, Malformed]]()
        accepted = self._check.accepts(batch)
        if all(accepted) and not stopped and not self._has_folded_some(batch):
            return range(len(accepted)), invalid, stopped
        partitions = list(map(Partition, batch.topics, batch.partitions))
        for number, (partition, offset, is_accepted) in enumerate(
            zip(partitions, batch.offsets, accepted, strict=True)
        ):
            if offset < self._positions.get(partition, 0) or partition in stopped:
                continue
            if is_accepted:
                numbers.append(number)
                continue
            record = batch.record(number)
            if record.sets_aside is not None and record.value is None:
                continue
            try:
                read_upload(record, self._codec, self.topics)
            except Malformed as fault:
                invalid.append((record, fault))
            except UnknownSchema as fault:
                stopped[partition] = StoppedAt(record, str(fault))
            else:
                numbers.append(number)
        return numbers, invalid, stopped

    def _has_folded_some(self, batch: UploadBatch) -> bool:
        """Whether a record is below the position of its partition."""
        at = zip(reversed(batch.topics), reversed(batch.partitions), strict=True)
        first_offsets = dict(zip(at, reversed(batch.offsets), strict=True))
        return any(
            offset < self._positions.get(Partition(*partition), 0)
            for partition, offset in first_offsets.items()
        )

    def advance(self, positions: Positions) -> None:
        """Set the positions; they also pass transaction markers and aborted records, which change no row."""
        with self._advanced:
            positions = _before(self._stopped, positions)
            if any(self._positions.get(partition) != end for partition, end in positions.items()):
                self._positions.update(positions)
                self._advanced.notify_all()

    def stopped(self) -> Mapping[Partition, StoppedAt]:
        """The partitions whose fold has stopped."""
        return self._stopped

    def set_aside(self, record: UploadRecord) -> None:
        """Skip the upload at which a partition stopped, if this later record of the same key sets it aside."""
        stop = self._stopped.get(Partition(record.at.topic, record.at.partition))
        if (
            stop is not None
            and stop.record.at.offset == record.sets_aside
            and stop.record.key == record.key
        ):
            self._set_aside.add(stop.record.at)

    def resume(self) -> list[Partition]:
        """Fold stopped partitions on whose upload can be read or is set aside now; returns them.

        Their records must be passed to `fold` again, from the position on.
        """
        resumed = []
        for partition, stop in self._stopped.items():
            with suppress(Malformed):
                try:
                    read_upload(stop.record, self._codec, self.topics)
                except UnknownSchema:
                    continue
            resumed.append(partition)
        self._stopped = {
            partition: stop for partition, stop in self._stopped.items() if partition not in resumed
        }
        return resumed

    @contextmanager
    def frozen(self) -> Iterator[Positions]:
        """Stop the fold while the block runs: every context read in it is the one at the yielded positions."""
        with self._fold_lock:
            yield self.positions()

    def positions(self) -> Positions:
        """The position up to which each upload partition has been folded."""
        with self._advanced:
            return dict(self._positions)

    def estimated_rows(self) -> int:
        """About how many rows the store has."""
        return self._store.estimated_rows()

    def wait_past(self, watermarks: Positions, seconds: float) -> Positions:
        """Wait until every watermark is reached, but not for stopped partitions; returns the ones not reached."""

        def is_settled() -> bool:
            return self._unreached(watermarks).keys() <= self._stopped.keys()

        with self._advanced:
            self._advanced.wait_for(is_settled, timeout=seconds)
            return self._unreached(watermarks)

    def _unreached(self, watermarks: Positions) -> Positions:
        return {
            partition: end
            for partition, end in watermarks.items()
            if self._positions.get(partition, 0) < end
        }

    def close(self) -> None:
        """Flush rows and positions and close the store."""
        self._store.close()


def _before(stopped: Mapping[Partition, StoppedAt], positions: Positions) -> Positions:
    """The positions, but for a stopped partition that of the upload at which it stopped."""
    return {
        partition: stopped[partition].record.at.offset if partition in stopped else end
        for partition, end in positions.items()
    }


def _metadata_rows(metadata: Mapping[str, str]) -> dict[bytes, bytes]:
    return {METADATA + name.encode(): value.encode() for name, value in metadata.items()}


def _named(metadata: Mapping[str, str], prefix: str) -> Iterator[tuple[str, str]]:
    """The metadata whose names have this prefix, by the rest of the name."""
    for name, value in metadata.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), value


def _partition(name: str) -> Partition:
    topic, _, number = name.rpartition("/")
    return Partition(topic, int(number))
