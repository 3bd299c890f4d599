"""Who waits for what: the parked topic folded into memory, without the requests' bodies. Pure."""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from schemas.coordinates import Coordinates

SPARE = 1000  # reminders of released requests that are not worth clearing away


@dataclass(frozen=True, slots=True)
class ParkedEntry:
    """One parked request; parked_offset is where its entry stands in the parked topic's like partition."""

    request_at: Coordinates
    parked_offset: int
    scope_key: str
    brings_prompt: bool
    deadline_at_ms: int


class ParkedIndex:
    """The parked requests of the owned partitions, and which of them are due.

    One is due from the moment its context is complete or its deadline has passed; taken into a batch it is not
    given again before its tombstone was read, or the batch was dropped.
    """

    def __init__(self) -> None:
        self._live: dict[int, OrderedDict[Coordinates, ParkedEntry]] = {}  # oldest entry first
        self._of_scope: dict[str, dict[Coordinates, ParkedEntry]] = {}
        self._deadlines: list[tuple[int, Coordinates]] = []
        self._due: dict[Coordinates, ParkedEntry] = {}
        self._taken: dict[Coordinates, ParkedEntry] = {}

    def __len__(self) -> int:
        return sum(map(len, self._live.values()))

    def __bool__(self) -> bool:
        return any(self._live.values())

    @property
    def any_due(self) -> bool:
        """Whether one is known to be due, deadlines apart."""
        return bool(self._due)

    @property
    def partitions(self) -> set[int]:
        """Those with a request that waits."""
        return {partition for partition, live in self._live.items() if live}

    def park(self, one: ParkedEntry, *, is_complete: bool = False) -> None:
        """An entry was read from the log; it is due at once where its context is complete already."""
        self.release(one.request_at)
        self._live.setdefault(one.request_at.partition, OrderedDict())[one.request_at] = one
        self._of_scope.setdefault(one.scope_key, {})[one.request_at] = one
        if is_complete:
            self._due[one.request_at] = one
        self._remind(one)

    def _remind(self, one: ParkedEntry) -> None:
        heapq.heappush(self._deadlines, (one.deadline_at_ms, one.request_at))
        if len(self._deadlines) > 2 * len(self) + SPARE:  # most of them released long ago
            self._deadlines = [
                (waiting.deadline_at_ms, waiting.request_at)
                for live in self._live.values()
                for waiting in live.values()
            ]
            heapq.heapify(self._deadlines)

    def release(self, request_at: Coordinates) -> None:
        """A tombstone was read from the log: the request has its outcome."""
        one = self._live.get(request_at.partition, OrderedDict()).pop(request_at, None)
        if one is None:
            return
        self._due.pop(request_at, None)
        self._taken.pop(request_at, None)
        waiting = self._of_scope[one.scope_key]
        del waiting[request_at]
        if not waiting:
            del self._of_scope[one.scope_key]

    def forget(self, partitions: Iterable[int]) -> None:
        """These partitions are another's now."""
        for partition in partitions:
            for request_at in list(self._live.get(partition, ())):
                self.release(request_at)
            self._live.pop(partition, None)

    def oldest(self, partition: int) -> int | None:
        """Where the oldest live entry of a partition stands: what a takeover has to read from."""
        live = self._live.get(partition)
        return next(iter(live.values())).parked_offset if live else None

    def arrived(self, scope_key: str, is_complete: Callable[[ParkedEntry], bool]) -> None:
        """The context of a scope changed: those of its requests that are complete now are due."""
        for request_at, one in self._of_scope.get(scope_key, {}).items():
            if request_at not in self._taken and is_complete(one):
                self._due[request_at] = one

    def take(self, now_ms: int, most: int) -> list[ParkedEntry]:
        """At most so many of those that are due, for one batch; the longest due first."""
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            _, request_at = heapq.heappop(self._deadlines)
            one = self._live.get(request_at.partition, OrderedDict()).get(request_at)
            if one is not None and request_at not in self._taken:
                self._due[request_at] = one
        taken = [self._due.pop(request_at) for request_at in list(islice(self._due, most))]
        self._taken.update((one.request_at, one) for one in taken)
        return taken

    def keep_waiting(self, ones: Iterable[ParkedEntry]) -> None:
        """These were taken and are not complete after all."""
        for one in ones:
            if self._taken.pop(one.request_at, None):
                self._remind(one)

    def requeue(self, ones: Iterable[ParkedEntry] | None = None) -> None:
        """These were taken, all of them if none are named, and their batch was dropped: due again."""
        for one in list(self._taken.values()) if ones is None else ones:
            if self._taken.pop(one.request_at, None):
                self._due[one.request_at] = one
