"""The context replica: a full local copy of every scope's context, fed by the upload topics alone.

One thread folds, others read. Rows and source positions are written together, so that a kill cannot
tear them apart and a restart goes on from where the rows stand.
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
    """What is known of every scope, and up to which position of every upload partition.

    changed is told the scope keys that a fold has changed, while nothing else is folded.
    """

    def __init__(
        self,
        store: Store,
        codec: Codec,
        topics: UploadTopics,
        changed: Callable[[Collection[str]], None] | None = None,
    ) -> None:
        self._store = store
        self._codec = codec
        self._own = (
            Codec()
        )  # rows on disk bear the fixed ids: whatever registry there is, they stay readable
        self._topics = topics
        self.changed = changed
        self._cached: dict[str, AssignmentContext | None] = {}
        self._folding = threading.RLock()  # held while rows and positions change, or must not
        self._advanced = threading.Condition()
        self._positions: dict[Partition, int] = {}

    def open(self, topic_ids: Mapping[str, str]) -> Positions:
        """Take up the stored rows; gives the positions to go on from, none where there are no rows.

        Rows of another fold version are dropped. Raises Discrepancy where an upload topic is not the one
        that the rows were folded from.
        """
        notes = self._store.notes()
        if notes and notes.get("fold_version") != str(FOLD_VERSION).encode():
            self._store.clear()
            notes = {}
        for topic, topic_id in topic_ids.items():
            known = notes.get(f"topic_id:{topic}", topic_id.encode()).decode()
            if known != topic_id:
                raise Discrepancy(
                    f"topic {topic} was made anew (its id was {known}, is {topic_id}) since the replica "
                    "was folded from it: delete the replica's folder, and it is rebuilt"
                )
        kept = {f"topic_id:{topic}": topic_id.encode() for topic, topic_id in topic_ids.items()}
        self._store.write({}, {**kept, "fold_version": str(FOLD_VERSION).encode()})
        self._positions = {
            _partition(name.removeprefix("position:")): int(value)
            for name, value in notes.items()
            if name.startswith("position:")
        }
        return dict(self._positions)

    def context(self, scope_key: str) -> AssignmentContext | None:
        """The context of one scope; the same object for as long as it stays unchanged and cached."""
        try:
            return self._cached[scope_key]
        except KeyError:
            with self._folding:  # a fold between read and put would leave an old row in the cache
                return self._remember(scope_key, self._read(scope_key))

    def contexts(self) -> Iterator[AssignmentContext]:
        """Every context, by scope key; nothing is to be folded meanwhile."""
        return (self._own.decode_as(AssignmentContext, row) for _, row in self._store.rows())

    def _read(self, scope_key: str) -> AssignmentContext | None:
        row = self._store.row(scope_key)
        return None if row is None else self._own.decode_as(AssignmentContext, row)

    def _remember(
        self, scope_key: str, context: AssignmentContext | None
    ) -> AssignmentContext | None:
        if len(self._cached) >= CACHED_CONTEXTS:
            self._cached.clear()
        self._cached[scope_key] = context
        return context

    def fold(
        self, records: Iterable[UploadRecord], positions: Positions
    ) -> list[tuple[UploadRecord, Malformed]]:
        """Fold records and move to positions, in one write; gives the records that are no uploads.

        Raises UnknownSchema for a record of a later release, and then nothing is written.
        """
        changed = _Changed(self)
        refused = []
        for record in records:
            try:
                event = read_upload(record, self._codec, self._topics)
            except Malformed as fault:
                refused.append((record, fault))
            else:
                fold(changed, event, record.at, record.appended_at_ms)
        encoded = {key: self._own.encode(context) for key, context in changed.rows.items()}
        notes = {f"position:{_name(at)}": str(end).encode() for at, end in positions.items()}
        with self._folding:
            self._store.write(encoded, notes)
            for scope_key, context in changed.rows.items():
                self._remember(scope_key, context)
            if self.changed is not None and changed.rows:
                self.changed(changed.rows.keys())
            self.advance(
                positions
            )  # who waits for a position finds the rows, and what follows them
        return refused

    def advance(self, positions: Positions) -> None:
        """The feed stands here now: past markers and aborted records, too, which are no rows."""
        with self._advanced:
            if any(self._positions.get(at) != end for at, end in positions.items()):
                self._positions.update(positions)
                self._advanced.notify_all()

    @contextmanager
    def frozen(self) -> Iterator[Positions]:
        """Nothing is folded meanwhile: every context read inside is the one at these positions."""
        with self._folding:
            yield self.positions()

    def positions(self) -> Positions:
        """How far every upload partition has been folded."""
        with self._advanced:
            return dict(self._positions)

    def wait_past(self, watermarks: Positions, seconds: float) -> Positions:
        """Wait until every watermark is reached; gives those that were not reached in time."""
        with self._advanced:
            self._advanced.wait_for(lambda: not self._behind(watermarks), timeout=seconds)
            return self._behind(watermarks)

    def _behind(self, watermarks: Positions) -> Positions:
        return {at: end for at, end in watermarks.items() if self._positions.get(at, 0) < end}

    def close(self) -> None:
        """Flush rows and positions and let go of the folder."""
        self._store.close()


class _Changed:
    """The rows that one batch of uploads changes, over those of the replica."""

    def __init__(self, below: ContextReplica) -> None:
        self.rows: dict[str, AssignmentContext] = {}
        self._below = below

    def get(self, scope_key: str, /) -> AssignmentContext | None:
        return self.rows.get(scope_key) or self._below.context(scope_key)

    def __setitem__(self, scope_key: str, context: AssignmentContext, /) -> None:
        self.rows[scope_key] = context


def _name(at: Partition) -> str:
    return f"{at.topic}/{at.partition}"


def _partition(name: str) -> Partition:
    topic, _, partition = name.rpartition("/")
    return Partition(topic, int(partition))
