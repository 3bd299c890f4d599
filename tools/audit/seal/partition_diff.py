"""A partition held against its seal: which record is the first that was altered, removed, added or cut off. Pure.

Records that a topic loses by its own settings are no findings: those past retention, and uploads older than the audit
horizon of which the log has a newer one with the same key.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from processors.kafka.records import LogRecord
from tools.audit.seal.merkle import leaf_of, root_of
from tools.audit.seal.seal_blocks import Block, SealedRecord, short, short_key

Kind = Literal["altered", "removed", "added", "cut off"]


@dataclass(frozen=True, slots=True, order=True)
class Deviation:
    """What became of the record at an offset; until is set where it is one of those in [offset, until)."""

    offset: int
    kind: Kind
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionBounds:
    """What a partition has now, and what it may have lost: records appended before these times, none where None."""

    first: int
    end: int
    compacted_before_ms: int | None = None
    expired_before_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How many sealed records are as they were or may be gone, how many findings of each kind, and the first."""

    intact: int
    compacted: int
    expired: int
    findings: Mapping[Kind, int]
    first: Deviation | None


@dataclass(slots=True)
class _Gone:
    """Records of one key that compaction may have removed, if the log has a newer one."""

    first: int
    count: int = 0


@dataclass(slots=True)
class _ComparisonState:
    """What has been found so far."""

    bounds: RetentionBounds
    intact: int = 0
    compacted: int = 0
    expired: int = 0
    findings: Counter[Kind] = field(default_factory=Counter)
    first: Deviation | None = None
    gone: dict[bytes, _Gone] = field(default_factory=dict)

    def find(self, finding: Deviation, count: int = 1) -> None:
        self.findings[finding.kind] += count
        self.first = finding if self.first is None else min(self.first, finding)

    def miss(self, sealed: SealedRecord) -> None:
        """A sealed record is not there."""
        bounds, offset, ms = self.bounds, sealed.offset, sealed.appended_at_ms
        if offset >= bounds.end:
            self.find(Deviation(offset, "cut off"))
        elif offset < bounds.first and _is_before(ms, bounds.expired_before_ms):
            self.expired += 1
        elif _is_before(ms, bounds.compacted_before_ms):
            known = self.gone.setdefault(sealed.key, _Gone(offset))
            known.count += 1
        else:
            self.find(Deviation(offset, "removed"))

    def see(self, key: bytes) -> None:
        """There is a record of this key: what is gone before it was compacted."""
        if superseded := self.gone.pop(key, None):
            self.compacted += superseded.count

    def end(self) -> Comparison:
        for gone in self.gone.values():
            self.find(Deviation(gone.first, "removed"), gone.count)
        return Comparison(
            intact=self.intact,
            compacted=self.compacted,
            expired=self.expired,
            findings=dict(self.findings),
            first=self.first,
        )


def compare(
    blocks: Iterable[Block],
    records: Iterable[LogRecord],
    later: Iterable[LogRecord],
    bounds: RetentionBounds,
) -> Comparison:
    """Hold the records of a sealed range against its blocks.

    later are the records after the range; they are asked for only where one of them may explain what is missing.
    """
    held, coming = _ComparisonState(bounds), _RecordStream(records)
    for block in blocks:
        _compare_block(held, block, coming.before(block.end))
    for record in coming.rest():
        held.find(Deviation(record.at.offset, "added"))
        held.see(short_key(record.key))
    if held.gone:
        for record in later:
            held.see(short_key(record.key))
    return held.end()


def _compare_block(held: _ComparisonState, block: Block, records: Sequence[LogRecord]) -> None:
    leaves = [leaf_of(record) for record in records]
    if len(leaves) == len(block.records) and root_of(leaves) == block.root:
        held.intact += len(leaves)
        if held.gone:
            for sealed in block.records:
                held.see(sealed.key)
    elif _differences(held, block, records, leaves) == 0:
        # the roots differ, yet what is kept of each leaf does not: a collision that somebody made
        held.find(Deviation(block.start, "altered", block.end))


def _differences(
    held: _ComparisonState, block: Block, records: Sequence[LogRecord], leaves: Sequence[bytes]
) -> int:
    """Hold each record of a block; how many were not as they were."""
    sealed = {one.offset: one for one in block.records}
    here = {one.at.offset: (one, leaf) for one, leaf in zip(records, leaves, strict=True)}
    intact = 0
    for offset in sorted({*sealed, *here}):
        known, found = sealed.get(offset), here.get(offset)
        if found is None:
            held.miss(sealed[offset])
            continue
        held.see(short_key(found[0].key))
        if known is None:
            held.find(Deviation(offset, "added"))
        elif known.leaf != short(found[1]):
            held.find(Deviation(offset, "altered"))
        else:
            intact += 1
    held.intact += intact
    return len({*sealed, *here}) - intact


def _is_before(ms: int, moment_ms: int | None) -> bool:
    return moment_ms is not None and ms < moment_ms


class _RecordStream:
    """Records in order, taken up to an offset at a time."""

    def __init__(self, records: Iterable[LogRecord]) -> None:
        self._records = iter(records)
        self._next: LogRecord | None = next(self._records, None)

    def before(self, end: int) -> list[LogRecord]:
        taken = list[LogRecord]()
        while self._next is not None and self._next.at.offset < end:
            taken.append(self._next)
            self._next = next(self._records, None)
        return taken

    def rest(self) -> Iterator[LogRecord]:
        if self._next is not None:
            yield self._next
            yield from self._records
