"""Which requests wait for what: the parked topic folded into memory, without the requests' bodies. Pure."""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from schemas.coordinates import Coordinates

MAX_STALE_DEADLINES = 1000  # beyond twice the number of entries; more are cleaned up


@dataclass(frozen=True, slots=True)
class ParkedEntry:
    """One parked request; parked_offset is the offset of its entry in the same partition of the parked topic.

    content: a hash of the request's key and value, None if the entry is not readable.
    """

    request_at: Coordinates
    parked_offset: int
    scope_key: str
    brings_prompt: bool
    deadline_at_ms: int
    content: int | None = None


class ParkedIndex:
    """The parked requests of the owned partitions, and which of them are due.

    A request is due as soon as its context is complete or its deadline has passed. Once taken into a batch, it is
    not taken again until the batch is dropped or the request turns out to be incomplete; its tombstone removes it.
    A request is held while its context cannot be known.
    """

    def __init__(self) -> None:
        self._entries: dict[int, OrderedDict[Coordinates, ParkedEntry]] = {}  # oldest entry first
        self._by_scope: dict[str, dict[Coordinates, ParkedEntry]] = {}
        self._deadlines: list[tuple[int, Coordinates]] = []
        self._due: dict[Coordinates, ParkedEntry] = {}
        self._taken: dict[Coordinates, ParkedEntry] = {}
        self._held: dict[Coordinates, ParkedEntry] = {}

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def __bool__(self) -> bool:
        return any(self._entries.values())

    @property
    def any_due(self) -> bool:
        """Whether a request is known to be due; deadlines that have just passed are not counted."""
        return bool(self._due)

    @property
    def partitions(self) -> set[int]:
        """The partitions with a parked request."""
        return {partition for partition, entries in self._entries.items() if entries}

    @property
    def scope_keys(self) -> list[str]:
        """The scopes that a request waits for."""
        return list(self._by_scope)

    def entry(self, request_at: Coordinates) -> ParkedEntry | None:
        """The entry of a request."""
        return self._entries.get(request_at.partition, OrderedDict()).get(request_at)

    def requests_from(self, request_at: Coordinates) -> list[Coordinates]:
        """The parked requests of one partition with this offset or a higher one."""
        entries = self._entries.get(request_at.partition, OrderedDict())
        return [at for at in entries if at.offset >= request_at.offset]

    def park(self, entry: ParkedEntry, *, is_complete: bool = False) -> None:
        """Add an entry that was read from the log; if its context is complete already, it is due at once."""
        self.remove(entry.request_at)
        self._entries.setdefault(entry.request_at.partition, OrderedDict())[entry.request_at] = (
            entry
        )
        self._index(entry, is_complete=is_complete)

    def correct(self, entry: ParkedEntry, *, is_complete: bool) -> None:
        """Put a corrected entry in the place of a taken one; it waits again, or is due if its context is complete."""
        self._forget(self._entries[entry.request_at.partition][entry.request_at])
        self._entries[entry.request_at.partition][entry.request_at] = entry
        self._index(entry, is_complete=is_complete)

    def _index(self, entry: ParkedEntry, *, is_complete: bool) -> None:
        self._by_scope.setdefault(entry.scope_key, {})[entry.request_at] = entry
        if is_complete:
            self._due[entry.request_at] = entry
        self._add_deadline(entry)

    def _add_deadline(self, entry: ParkedEntry) -> None:
        heapq.heappush(self._deadlines, (entry.deadline_at_ms, entry.request_at))
        if len(self._deadlines) > 2 * len(self) + MAX_STALE_DEADLINES:
            self._deadlines = [
                (parked.deadline_at_ms, parked.request_at)
                for entries in self._entries.values()
                for parked in entries.values()
            ]
            heapq.heapify(self._deadlines)

    def remove(self, request_at: Coordinates) -> None:
        """Remove the entry of a tombstone that was read from the log: the request has its outcome."""
        entry = self._entries.get(request_at.partition, OrderedDict()).pop(request_at, None)
        if entry is not None:
            self._forget(entry)

    def _forget(self, entry: ParkedEntry) -> None:
        request_at = entry.request_at
        self._due.pop(request_at, None)
        self._taken.pop(request_at, None)
        self._held.pop(request_at, None)
        same_scope = self._by_scope[entry.scope_key]
        del same_scope[request_at]
        if not same_scope:
            del self._by_scope[entry.scope_key]

    def remove_partitions(self, partitions: Iterable[int]) -> None:
        """Remove the entries of partitions that were revoked."""
        for partition in partitions:
            for request_at in list(self._entries.get(partition, ())):
                self.remove(request_at)
            self._entries.pop(partition, None)

    def oldest_offset(self, partition: int) -> int | None:
        """The offset of a partition's oldest entry, from which a takeover must read; None if there is no entry."""
        entries = self._entries.get(partition)
        return next(iter(entries.values())).parked_offset if entries else None

    @property
    def oldest_deadline_ms(self) -> int | None:
        """The earliest deadline of the partitions' oldest entries; None if there is none, or none is readable."""
        oldest = (next(iter(entries.values())) for entries in self._entries.values() if entries)
        return min((one.deadline_at_ms for one in oldest if one.deadline_at_ms > 0), default=None)

    def context_changed(self, scope_key: str, is_complete: Callable[[ParkedEntry], bool]) -> None:
        """Mark as due those requests of a scope whose context is now complete."""
        for request_at, entry in self._by_scope.get(scope_key, {}).items():
            if not self._is_taken(request_at) and is_complete(entry):
                self._due[request_at] = entry

    def take_due(self, now_ms: int, limit: int) -> list[ParkedEntry]:
        """Take up to `limit` due requests for one batch, in the order in which they became due."""
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            _, request_at = heapq.heappop(self._deadlines)
            entry = self.entry(request_at)
            if entry is not None and not self._is_taken(request_at):
                self._due[request_at] = entry
        taken = [self._due.pop(request_at) for request_at in list(islice(self._due, limit))]
        self._taken.update((entry.request_at, entry) for entry in taken)
        return taken

    def keep_waiting(self, entries: Iterable[ParkedEntry]) -> None:
        """Let taken requests wait again, because their context is not complete after all."""
        for entry in entries:
            if self._taken.pop(entry.request_at, None):
                self._add_deadline(entry)

    def hold(self, entries: Iterable[ParkedEntry]) -> None:
        """Keep taken requests, due or not, until `release_held`."""
        for entry in entries:
            if self._taken.pop(entry.request_at, None):
                self._held[entry.request_at] = entry

    def release_held(self, may_go: Callable[[ParkedEntry], bool]) -> None:
        """Make those held requests due again that may go now."""
        for entry in [entry for entry in self._held.values() if may_go(entry)]:
            self._due[entry.request_at] = self._held.pop(entry.request_at)

    def _is_taken(self, request_at: Coordinates) -> bool:
        return request_at in self._taken or request_at in self._held

    def requeue(self, entries: Iterable[ParkedEntry] | None = None) -> None:
        """Make taken requests due again, because their batch was dropped; all of them by default."""
        for entry in list(self._taken.values()) if entries is None else entries:
            if self._taken.pop(entry.request_at, None):
                self._due[entry.request_at] = entry
