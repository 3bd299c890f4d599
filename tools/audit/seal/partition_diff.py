"""A partition compared with its seal: the first record that was altered, removed, added or cut off. Pure.

Records that a topic loses by its own settings are not findings: records past retention, and uploads older than the
audit horizon if the log has a newer record with the same key.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
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


@dataclass(slots=True)
class Comparison:
    """Counts of sealed records that are unchanged or that the topic's own settings removed, and the findings."""

    bounds: RetentionBounds
    intact: int = 0
    compacted: int = 0
    expired: int = 0
    findings: Counter[Kind] = field(default_factory=Counter)
    first: Deviation | None = None
    # missing records by key, the first offset and the count: compacted, if the log has a newer one
    _missing: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def report(self, finding: Deviation, count: int = 1) -> None:
        """Count a finding."""
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
            first, count = self._missing.get(sealed.key, (offset, 0))
            self._missing[sealed.key] = (first, count + 1)
        else:
            self.report(Deviation(offset, "removed"))

    def note_present(self, keys: Iterable[bytes]) -> None:
        """Note records of these keys: the missing records before them were compacted."""
        for key in keys if self._missing else ():
            self.compacted += self._missing.pop(key, (0, 0))[1]

    def report_missing(self, later: Iterable[LogRecord]) -> None:
        """Report the missing records that no later record explains; these are read only if there are any."""
        if self._missing:
            self.note_present(short_key(record.key) for record in later)
        for first, count in self._missing.values():
            self.report(Deviation(first, "removed"), count)


def compare(
    blocks: Iterable[Block],
    records: Iterable[LogRecord],
    later: Iterable[LogRecord],
    bounds: RetentionBounds,
) -> Comparison:
    """Compare the records of a sealed range with its blocks.

    `later` are the records after the range; they are read only if one of them may explain a missing record.
    """
    result, remaining = Comparison(bounds), iter(records)
    record = next(remaining, None)
    for block in blocks:
        found = list[LogRecord]()
        while record is not None and record.at.offset < block.end:
            found.append(record)
            record = next(remaining, None)
        _compare_block(result, block, found)
    while record is not None:
        result.report(Deviation(record.at.offset, "added"))
        result.note_present([short_key(record.key)])
        record = next(remaining, None)
    result.report_missing(later)
    return result


def _compare_block(result: Comparison, block: Block, records: Sequence[LogRecord]) -> None:
    leaves = [leaf_of(record) for record in records]
    if len(leaves) == len(block.records) and root_of(leaves) == block.root:
        result.intact += len(leaves)
        result.note_present(sealed.key for sealed in block.records)
    elif _differences(result, block, records, leaves) == 0:
        # the roots differ although every shortened leaf matches: a deliberate collision
        result.report(Deviation(block.start, "altered", block.end))


def _differences(
    result: Comparison, block: Block, records: Sequence[LogRecord], leaves: Sequence[bytes]
) -> int:
    """Compare each record of a block; returns how many differ."""
    sealed = {record.offset: record for record in block.records}
    present = {
        record.at.offset: (record, leaf) for record, leaf in zip(records, leaves, strict=True)
    }
    intact, offsets = 0, sorted({*sealed, *present})
    for offset in offsets:
        expected, found = sealed.get(offset), present.get(offset)
        if found is None:
            result.classify_missing(sealed[offset])
            continue
        result.note_present([short_key(found[0].key)])
        if expected is None:
            result.report(Deviation(offset, "added"))
        elif expected.leaf != short(found[1]):
            result.report(Deviation(offset, "altered"))
        else:
            intact += 1
    result.intact += intact
    return len(offsets) - intact


def _is_before(ms: int, moment_ms: int | None) -> bool:
    return moment_ms is not None and ms < moment_ms
