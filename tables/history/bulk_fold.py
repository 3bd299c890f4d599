"""The fold of a range of the upload topics, faster than record by record and equal to it.

Every record is judged, most by a glance, but only the newest of each scope and role is decoded and folded: an older
one changes nothing. A property test holds it equal to the plain fold. Beside it the chains of versions are followed,
so that scopes whose history is broken are told.

Memory is bounded by `most` scopes: when there are more, this fold keeps a slice of their keys only, and `rest` are
the slices for which the range has to be read again.
"""

import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass
from typing import NamedTuple

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Malformed
from schemas.events import ROLES, AssignmentContext, Component
from tables.context import FOLD_VERSION, component_from
from tables.history.scope_history import link_of
from tables.history.upload_scan import ScannedScope, UploadScanner, scope_of
from tables.history.version_chain import BEFORE, RECENT, VersionChain, VersionLink, step
from tables.upload_record import UploadRecord, UploadTopics, read_upload

MOST = 150_000  # scopes, about four kilobytes each


class KeySlice(NamedTuple):
    """The scope keys whose checksum leaves this rest."""

    modulus: int
    rest: int

    def takes(self, key: bytes) -> bool:
        """Whether a key is of this slice."""
        return zlib.crc32(key) % self.modulus == self.rest

    def halves(self) -> tuple["KeySlice", "KeySlice"]:
        """Two slices that make up this one."""
        return (
            KeySlice(2 * self.modulus, self.rest),
            KeySlice(2 * self.modulus, self.rest + self.modulus),
        )


ALL = KeySlice(1, 0)


@dataclass(slots=True)
class _ScopeState:
    """What is kept of one key in one partition: its newest upload, and how far its chain has come.

    scope is None where no upload of that key can be valid. version and recent are the chain, in the open because this
    is done for every record; recent is None where the range begins later than the chain.
    """

    scope: ScannedScope | None
    recent: tuple[str, ...] | None
    version: int = 0
    records: int = 0
    damaged: int = 0
    damaged_since: int = 0  # the newest upload
    gaps: int = 0
    offset: int = -1
    appended_at_ms: int = 0
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class FoldedScope:
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


class BulkFold:
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
        of: KeySlice = ALL,
        scope_keys: Collection[bytes] = (),
        most: int = MOST,
    ) -> None:
        self._codec = codec
        self._topics = topics
        self._whole = whole
        self._of = of
        self._scope_keys = scope_keys
        self._most = most
        self.rest: list[KeySlice] = []
        self._scanner = UploadScanner(codec, topics)
        self._roles = dict(zip(topics.by_name, ROLES, strict=True))
        self._scopes: dict[bytes, ScannedScope | None] = {}
        self._known: dict[tuple[str, int], dict[bytes, _ScopeState]] = defaultdict(dict)

    def add(
        self,
        at: tuple[str, int, int],
        key: bytes | None,
        value: bytes | None,
        appended_at_ms: int,
    ) -> None:
        """One record, at its topic, partition and offset. Raises UnknownSchema."""
        topic, partition, offset = at
        scope_key = key or b""
        known = self._known[topic, partition].get(scope_key)
        if known is None:
            known = self._admitted(topic, partition, scope_key)
            if known is None:
                return
        known.records += 1
        link = self._scanner.scan_link(topic, known.scope, value) if known.scope else None
        if link is None:
            link = self._judged(UploadRecord(Coordinates(*at), key, value, appended_at_ms))
            if link is None:
                known.damaged += 1
                known.damaged_since += 1
                return
        version, event_id, previous = link
        recent = known.recent
        if recent is None:
            recent = BEFORE.recent
        elif not recent or recent[0] != previous:
            known.gaps += step(
                VersionChain(known.version, recent), link, known.damaged_since
            ).is_gap
        known.version, known.recent = version, (event_id, *recent[: RECENT - 1])
        known.damaged_since = 0
        known.offset, known.appended_at_ms, known.value = offset, appended_at_ms, value

    def _judged(self, record: UploadRecord) -> VersionLink | None:
        """The slow path's word; None for a damaged record."""
        try:
            return link_of(read_upload(record, self._codec, self._topics))
        except Malformed:
            return None

    def _admitted(self, topic: str, partition: int, scope_key: bytes) -> _ScopeState | None:
        """A key's first record in a partition; None where it is not wanted, or of another slice."""
        if self._scope_keys and scope_key not in self._scope_keys:
            return None
        if scope_key not in self._scopes and self._of.takes(scope_key):
            self._scopes[scope_key] = scope_of(scope_key, self._topics.partitions)
            if len(self._scopes) > self._most:
                self._halve()
        if not self._of.takes(scope_key):
            return None
        scope = self._scopes[scope_key]
        belongs = scope if scope and scope.partition == partition else None
        is_whole = (topic, partition) in self._whole
        known = _ScopeState(belongs, BEFORE.recent if is_whole else None)
        self._known[topic, partition][scope_key] = known
        return known

    def _halve(self) -> None:
        self._of, later = self._of.halves()
        self.rest.append(later)
        self._scopes = {key: one for key, one in self._scopes.items() if self._of.takes(key)}
        for at, of_key in self._known.items():
            self._known[at] = {key: one for key, one in of_key.items() if self._of.takes(key)}

    def counts(self) -> Counts:
        """What has been taken of this slice."""
        every = [one for of_key in self._known.values() for one in of_key.items()]
        return Counts(
            sum(one.records for _, one in every),
            sum(one.damaged for _, one in every),
            len({key for key, one in every if one.value is not None}),
            len({key for key, one in every if one.gaps}),
        )

    def takes(self, scope_key: bytes) -> bool:
        """Whether a scope is of this slice."""
        return self._of.takes(scope_key)

    def contexts(self) -> Iterator[FoldedScope]:
        """Every scope's context, by scope key; a role has one newest upload: one partition is its own."""
        for scope_key in sorted(self._scopes):
            components = dict[str, Component]()
            broken = list[str]()
            for (topic, partition), of_key in self._known.items():
                known = of_key.get(scope_key)
                if known is None or known.value is None:
                    continue
                role = self._roles[topic]
                components[role] = self._component(topic, partition, scope_key, known)
                if known.gaps:
                    broken.append(role)
            if components:
                context = AssignmentContext(
                    scope_key=scope_key.decode(), fold_version=FOLD_VERSION, **components
                )
                yield FoldedScope(context, tuple(sorted(broken, key=ROLES.index)))

    def _component(
        self, topic: str, partition: int, scope_key: bytes, known: _ScopeState
    ) -> Component:
        at = Coordinates(topic, partition, known.offset)
        record = UploadRecord(at, scope_key, known.value, known.appended_at_ms)
        if known.scope and (found := self._scanner.scan_component(known.scope, record)):
            return found
        event = read_upload(record, self._codec, self._topics)
        return component_from(event, at, known.appended_at_ms)
