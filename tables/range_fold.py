"""The fold of a range of the upload topics, faster than record by record and equal to it.

Every record is judged, most by a glance, but only the newest of each scope and role is decoded and folded: an older
one changes nothing. A property test holds it equal to the plain fold. Beside it the chains of versions are followed,
so that scopes whose history is broken are told.

Memory is bounded by `most` scopes: when there are more, this fold keeps a slice of their keys only, and `rest` are
the slices for which the range has to be read again.
"""

import zlib
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass, field
from typing import NamedTuple

from schemas.codec import Codec
from schemas.errors import Malformed
from schemas.events import ROLES, AssignmentContext, Coordinates, role_of
from tables.chain import BEFORE, Chain, joined, step
from tables.context import fold
from tables.glance import Glance, Scope, scope_of
from tables.history import link_of
from tables.replica import Partition
from tables.uploads import UploadRecord, UploadTopics, read_upload

MOST = 150_000  # scopes, about four kilobytes each


class Slice(NamedTuple):
    """The scope keys whose checksum leaves this rest."""

    modulus: int
    rest: int

    def takes(self, key: bytes) -> bool:
        """Whether a key is of this slice."""
        return zlib.crc32(key) % self.modulus == self.rest

    def halves(self) -> tuple["Slice", "Slice"]:
        """Two slices that make up this one."""
        return (
            Slice(2 * self.modulus, self.rest),
            Slice(2 * self.modulus, self.rest + self.modulus),
        )


ALL = Slice(1, 0)


@dataclass(slots=True)
class _Known:
    """What is kept of one key in one partition: its newest upload, and how far its chain has come."""

    chain: Chain | None
    records: int = 0
    damaged: int = 0
    damaged_since: int = 0  # the newest upload
    gaps: int = 0
    offset: int = -1
    appended_at_ms: int = 0
    value: bytes | None = None


@dataclass(slots=True)
class _OfKey:
    """What is kept of one record key; scope is None where it is no scope's key."""

    scope: Scope | None
    known: dict[tuple[str, int], _Known] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folded:
    """One scope as the range leaves it; broken names the roles with a gap in their chain."""

    context: AssignmentContext
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a fold has taken: records, those that are no uploads, and scopes, also those with a gap in a chain."""

    records: int = 0
    damaged: int = 0
    scopes: int = 0
    broken: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(sum, zip(astuple(self), astuple(other), strict=True)))


class RangeFold:
    """Takes the records of whole partitions in log order; then gives a context per scope.

    whole are the partitions whose range begins with the first record of all: a chain has to begin with version 1
    there. scope_keys: only these; none given: every one.
    """

    def __init__(
        self,
        codec: Codec,
        topics: UploadTopics,
        *,
        whole: Collection[Partition],
        of: Slice = ALL,
        scope_keys: Collection[bytes] = (),
        most: int = MOST,
    ) -> None:
        self._codec = codec
        self._topics = topics
        self._whole = whole
        self._of = of
        self._scope_keys = scope_keys
        self._most = most
        self.rest: list[Slice] = []
        self._glance = Glance(codec, topics)
        self._scopes: dict[bytes, _OfKey] = {}

    def take(
        self,
        at: tuple[str, int, int],
        key: bytes | None,
        value: bytes | None,
        appended_at_ms: int,
    ) -> None:
        """One record, at its topic, partition and offset. Raises UnknownSchema."""
        scope_key, (topic, partition, offset) = key or b"", at
        if self._scope_keys and scope_key not in self._scope_keys:
            return
        if self._of.modulus > 1 and not self._of.takes(scope_key):
            return
        of_key = self._scopes.get(scope_key) or self._admit(scope_key)
        known = of_key.known.get((topic, partition))
        if known is None:
            is_whole = (topic, partition) in self._whole
            known = of_key.known[topic, partition] = _Known(BEFORE if is_whole else None)
        known.records += 1
        link = None
        if of_key.scope and of_key.scope.partition == partition:
            link = self._glance.link(topic, of_key.scope, value)
        if link is None:
            record = UploadRecord(Coordinates(topic, partition, offset), key, value, appended_at_ms)
            try:
                link = link_of(read_upload(record, self._codec, self._topics))
            except Malformed:
                known.damaged += 1
                known.damaged_since += 1
                return
        chain = known.chain
        if chain is not None and not (chain.recent and chain.recent[0] == link.previous):
            known.gaps += step(chain, link, known.damaged_since).is_gap
        known.chain = joined(chain or BEFORE, link)
        known.damaged_since = 0
        known.offset, known.appended_at_ms, known.value = offset, appended_at_ms, value

    def _admit(self, scope_key: bytes) -> _OfKey:
        of_key = self._scopes[scope_key] = _OfKey(scope_of(scope_key, self._topics.partitions))
        if len(self._scopes) > self._most:
            self._of, later = self._of.halves()
            self.rest.append(later)
            self._scopes = {key: one for key, one in self._scopes.items() if self._of.takes(key)}
        return of_key

    def counts(self) -> Counts:
        """What has been taken of this slice."""
        scopes = [list(of_key.known.values()) for of_key in self._scopes.values()]
        return Counts(
            sum(one.records for known in scopes for one in known),
            sum(one.damaged for known in scopes for one in known),
            sum(any(one.value is not None for one in known) for known in scopes),
            sum(any(one.gaps for one in known) for known in scopes),
        )

    def takes(self, scope_key: bytes) -> bool:
        """Whether a scope is of this slice."""
        return self._of.takes(scope_key)

    def contexts(self) -> Iterator[Folded]:
        """Every scope's context by the one fold, by scope key."""
        for scope_key in sorted(self._scopes):
            rows: dict[str, AssignmentContext] = {}
            broken = list[str]()
            for (topic, partition), known in self._scopes[scope_key].known.items():
                if known.value is None:
                    continue
                at = Coordinates(topic, partition, known.offset)
                record = UploadRecord(at, scope_key, known.value, known.appended_at_ms)
                event = read_upload(record, self._codec, self._topics)
                fold(rows, event, at, known.appended_at_ms)
                if known.gaps:
                    broken.append(role_of(event))
            for context in rows.values():
                yield Folded(context, tuple(sorted(broken, key=ROLES.index)))
