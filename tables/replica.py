"""The context replica: a full local copy of every scope's context, built from the upload topics alone.

One thread folds, other threads read. Rows and positions are written in one batch: they agree even after a kill, and a
restart continues from the positions that belong to the rows.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from schemas.codec import Codec
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy, Malformed
from schemas.events import AssignmentContext
from tables.context import FOLD_VERSION, fold
from tables.store import Store
from tables.upload_record import UploadRecord, UploadTopics, read_upload

CACHED_CONTEXTS = 20_000


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
    ) -> None:
        self._store = store
        self._codec = codec
        # rows on disk have the fixed schema ids, so that they stay readable whatever ids a registry gives
        self._row_codec = Codec()
        self._topics = topics
        self.on_changed = on_changed
        self._cache: dict[str, AssignmentContext | None] = {}
        # held while rows and positions change, or must not change
        self._fold_lock = threading.RLock()
        self._advanced = threading.Condition()
        self._positions: dict[Partition, int] = {}

    def open(self, topic_ids: Mapping[str, str]) -> Positions:
        """Open the stored rows; returns the positions to continue from, or {} if there are no rows.

        Rows of another fold version are dropped. Raises Discrepancy if an upload topic was recreated since the
        rows were folded from it.
        """
        metadata = self._store.metadata()
        if metadata and metadata.get("fold_version") != str(FOLD_VERSION).encode():
            self._store.clear()
            metadata = {}
        for topic, topic_id in topic_ids.items():
            known = metadata.get(f"topic_id:{topic}", topic_id.encode()).decode()
            if known != topic_id:
                raise Discrepancy(
                    f"topic {topic} was recreated (its id was {known}, now it is {topic_id}) after the replica "
                    "was built from it: delete the replica's folder, then the replica is rebuilt"
                )
        topic_metadata = {
            f"topic_id:{topic}": topic_id.encode() for topic, topic_id in topic_ids.items()
        }
        self._store.write({}, {**topic_metadata, "fold_version": str(FOLD_VERSION).encode()})
        self._positions = {
            _partition(name.removeprefix("position:")): int(value)
            for name, value in metadata.items()
            if name.startswith("position:")
        }
        return dict(self._positions)

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The context of one scope; the same object while it is unchanged and in the cache."""
        try:
            return self._cache[scope_key]
        except KeyError:
            with (
                self._fold_lock
            ):  # else a fold between read and put would leave an old row in the cache
                return self._remember(scope_key, self._read(scope_key))

    def contexts(self) -> Iterator[AssignmentContext]:
        """Every context, in the order of scope keys; the caller makes sure that nothing is folded meanwhile."""
        return (self._row_codec.decode_as(AssignmentContext, row) for _, row in self._store.rows())

    def _read(self, scope_key: str) -> AssignmentContext | None:
        row = self._store.row(scope_key)
        return None if row is None else self._row_codec.decode_as(AssignmentContext, row)

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
        """Fold records and store the new positions in one write; returns the records that are not valid uploads.

        Raises UnknownSchema for a record of a later release; in that case nothing is written.
        """
        changed = _ChangedRows(self)
        invalid = []
        for record in records:
            try:
                event = read_upload(record, self._codec, self._topics)
            except Malformed as fault:
                invalid.append((record, fault))
            else:
                fold(changed, event, record.at, record.appended_at_ms)
        encoded = {key: self._row_codec.encode(context) for key, context in changed.rows.items()}
        metadata = {
            f"position:{_name(partition)}": str(end).encode()
            for partition, end in positions.items()
        }
        with self._fold_lock:
            self._store.write(encoded, metadata)
            for scope_key, context in changed.rows.items():
                self._remember(scope_key, context)
            if self.on_changed is not None and changed.rows:
                self.on_changed(changed.rows.keys())
            self.advance(positions)  # last: a thread woken by it finds rows and callbacks done
        return invalid

    def advance(self, positions: Positions) -> None:
        """Set the positions; they also pass transaction markers and aborted records, which change no row."""
        with self._advanced:
            if any(self._positions.get(partition) != end for partition, end in positions.items()):
                self._positions.update(positions)
                self._advanced.notify_all()

    @contextmanager
    def frozen(self) -> Iterator[Positions]:
        """Stop the fold while the block runs: every context read in it is the one at the yielded positions."""
        with self._fold_lock:
            yield self.positions()

    def positions(self) -> Positions:
        """The position up to which each upload partition has been folded."""
        with self._advanced:
            return dict(self._positions)

    def wait_past(self, watermarks: Positions, seconds: float) -> Positions:
        """Wait until every watermark is reached; returns the ones not reached within that many seconds."""
        with self._advanced:
            self._advanced.wait_for(lambda: not self._unreached(watermarks), timeout=seconds)
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


class _ChangedRows:
    """The rows that one batch of uploads changes; other rows are read from the replica."""

    def __init__(self, replica: ContextReplica) -> None:
        self.rows: dict[str, AssignmentContext] = {}
        self._replica = replica

    def get(self, scope_key: str, /) -> AssignmentContext | None:
        return self.rows.get(scope_key) or self._replica.context(scope_key)

    def __setitem__(self, scope_key: str, context: AssignmentContext, /) -> None:
        self.rows[scope_key] = context


def _name(partition: Partition) -> str:
    return f"{partition.topic}/{partition.partition}"


def _partition(name: str) -> Partition:
    topic, _, number = name.rpartition("/")
    return Partition(topic, int(number))
