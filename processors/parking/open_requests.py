"""Which requests of the owned partitions are known to have no outcome: only those may be released. Pure.

Requests from the committed offset on, as it was when fetching began, are fetched by this worker alone: it knows which
of them it has parked. Of the requests below that offset, the outcome topics tell which have no outcome; from then on
only this worker writes one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum

from processors.parking.parked_index import ParkedEntry
from schemas.coordinates import Coordinates


class RequestState(Enum):
    """What is known of a request."""

    OPEN = "it has no outcome"
    ANSWERED = "its request has an outcome already"
    NOT_PARKED = "its request was not parked, or is not fetched yet"
    UNKNOWN = "the outcomes must be read"


class OpenRequests:
    """What is known since fetching began at the committed offsets."""

    def __init__(self) -> None:
        self._committed: Mapping[int, int] = {}
        self._own: dict[Coordinates, ParkedEntry] = {}
        self._open: set[Coordinates] = set()
        self._answered: set[Coordinates] = set()

    def begin(self, committed: Mapping[int, int]) -> None:
        """Fetching begins at the committed offset of each partition: what was prepared before may be dropped."""
        self._committed = dict(committed)
        self._own, self._open, self._answered = {}, set(), set()

    def state_of(self, at: Coordinates) -> RequestState:
        """What is known of a request."""
        if at in self._own or at in self._open:
            return RequestState.OPEN
        if at in self._answered:
            return RequestState.ANSWERED
        if at.offset >= self._committed.get(at.partition, 0):
            return RequestState.NOT_PARKED
        return RequestState.UNKNOWN

    def park(self, entry: ParkedEntry) -> None:
        """This worker parks a request that it has fetched; its entry has no offset yet."""
        self._own[entry.request_at] = entry

    def own_entry(self, at: Coordinates, parked_offset: int) -> ParkedEntry | None:
        """The entry of a request that this worker has parked, at this offset of the parked topic."""
        own = self._own.get(at)
        return own and replace(own, parked_offset=parked_offset)

    def answer(self, at: Coordinates) -> None:
        """This worker prepares the outcome of a parked request."""
        if self._own.pop(at, None) is None:
            self._open.discard(at)
            self._answered.add(at)

    def learn(self, wanted: Iterable[Coordinates], answered: Iterable[Coordinates]) -> None:
        """The outcomes were read: of the wanted requests, exactly these have one."""
        self._answered.update(answered)
        self._open.update(set(wanted) - self._answered)
