"""A partition compared with its seal: the first record that was altered, removed, added or cut off. Pure.

Records that a topic loses by its own settings are not findings: records past retention, and uploads older than the
audit horizon if the log has a newer record with the same key.
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
    """What happened to the record at `offset`; if `until` is set, to some record in [offset, until)."""

    offset: int
    kind: Kind
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionBounds:
    """A partition's current offsets; it may have lost records appended before these times, or none if None."""

    first: int
    end: int
    compacted_before_ms: int | None = None
    expired_before_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Counts of sealed records that are unchanged or that the topic's own settings removed, and the findings."""

    intact: int
    compacted: int
    expired: int
    findings: Mapping[Kind, int]
    first: Deviation | None


@dataclass(slots=True)
class _Missing:
    """Missing records of one key; compaction may have removed them if the log has a newer one."""

    first: int
    count: int = 0


@dataclass(slots=True)
class _ComparisonState:
    """The comparison so far."""

    bounds: RetentionBounds
    intact: int = 0
    compacted: int = 0
    expired: int = 0
    findings: Counter[Kind] = field(default_factory=Counter)
    first: Deviation | None = None
    missing: dict[bytes, _Missing] = field(default_factory=dict)

    def report(self, finding: Deviation, count: int = 1) -> None:
        self.findings[finding.kind] += count
        self.first = finding if self.first is None else min(self.first, finding)

    def classify_missing(self, sealed: SealedRecord) -> None:
        """Classify a sealed record that the log does not have."""
        bounds, offset, ms = self.bounds, sealed.offset, sealed.appended_at_ms
        if offset >= bounds.end:
            self.report(Deviation(offset, "cut off"))
        elif offset < bounds.first and _is_before(ms, bounds.expired_before_ms):
            self.expired += 1
        elif _is_before(ms, bounds.compacted_before_ms):
            missing = self.missing.setdefault(sealed.key, _Missing(offset))
            missing.count += 1
        else:
            self.report(Deviation(offset, "removed"))

    def note_present(self, key: bytes) -> None:
        """Note a record of this key: the missing records before it were compacted."""
        if superseded := self.missing.pop(key, None):
            self.compacted += superseded.count

    def result(self) -> Comparison:
        for missing in self.missing.values():
            self.report(Deviation(missing.first, "removed"), missing.count)
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
    """Compare the records of a sealed range with its blocks.

    `later` are the records after the range; they are read only if one of them may explain a missing record.
    """
    state, stream = _ComparisonState(bounds), _RecordStream(records)
    for block in blocks:
        _compare_block(state, block, stream.before(block.end))
    for record in stream.rest():
        state.report(Deviation(record.at.offset, "added"))
        state.note_present(short_key(record.key))
    if state.missing:
        for record in later:
            state.note_present(short_key(record.key))
    return state.result()


def _compare_block(state: _ComparisonState, block: Block, records: Sequence[LogRecord]) -> None:
    leaves = [leaf_of(record) for record in records]
    if len(leaves) == len(block.records) and root_of(leaves) == block.root:
        state.intact += len(leaves)
        if state.missing:
            for sealed in block.records:
                state.note_present(sealed.key)
    elif _differences(state, block, records, leaves) == 0:
        # the roots differ although every shortened leaf matches: a deliberate collision
        state.report(Deviation(block.start, "altered", block.end))


def _differences(
    state: _ComparisonState, block: Block, records: Sequence[LogRecord], leaves: Sequence[bytes]
) -> int:
    """Compare each record of a block; returns how many differ."""
    sealed = {record.offset: record for record in block.records}
    present = {
        record.at.offset: (record, leaf) for record, leaf in zip(records, leaves, strict=True)
    }
    intact = 0
    for offset in sorted({*sealed, *present}):
        expected, found = sealed.get(offset), present.get(offset)
        if found is None:
            state.classify_missing(sealed[offset])
            continue
        state.note_present(short_key(found[0].key))
        if expected is None:
            state.report(Deviation(offset, "added"))
        elif expected.leaf != short(found[1]):
            state.report(Deviation(offset, "altered"))
        else:
            intact += 1
    state.intact += intact
    return len({*sealed, *present}) - intact


def _is_before(ms: int, moment_ms: int | None) -> bool:
    return moment_ms is not None and ms < moment_ms


class _RecordStream:
    """A stream of records in order, read in portions up to a given offset."""

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
