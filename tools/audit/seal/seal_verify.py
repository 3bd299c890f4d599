"""`cjstream audit verify --seal`: does the log still say what was sealed, and if not, which record differs first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processors.kafka.clients import admin_client
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import cluster_id, topic_states
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.topics import Topic
from tools.audit.seal.partition_diff import Comparison, RetentionBounds, compare
from tools.audit.seal.seal_blocks import Block
from tools.audit.seal.seal_create import PATIENCE_S, shown
from tools.audit.seal.seal_file import Seal, SealedRange, SealHeader, open_seal
from tools.audit.seal.signing_key import fingerprint

DAY_MS = 86_400_000
NOTHING_THERE = RetentionBounds(first=0, end=0)


@dataclass(frozen=True, slots=True)
class CheckedPartition:
    """One partition held against its seal; topic_id is what the topic has now, None where it is missing."""

    sealed: SealedRange
    topic_id: str | None
    comparison: Comparison

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with it, a line each; nothing where it is as it was sealed."""
        return tuple(_faults(self))


@dataclass(frozen=True, slots=True)
class SealCheck:
    """A seal held against the log; faults are those of the seal as a whole."""

    file: Path
    digest: str
    header: SealHeader
    faults: tuple[str, ...]
    partitions: tuple[CheckedPartition, ...]

    @property
    def holds(self) -> bool:
        """Whether the log says just what was sealed."""
        return not self.faults and not any(one.faults for one in self.partitions)


def check_seals(
    settings: Settings, files: Sequence[Path], trusted: bytes | None, *, now_ms: int
) -> Iterator[SealCheck]:
    """Hold the log against seals; of several, each is to name the one before it.

    trusted is the public key that must have signed them; None takes the one that each names itself. Raises
    Misconfigured for what is no seal, Discrepancy for one that was altered, Unreachable.
    """
    before: str | None = None
    for file in files:
        with open_seal(file, trusted) as seal:
            check = _checked(settings, file, seal, now_ms)
            if before is not None and seal.header.after != before:
                left_out = "it does not follow the seal before it: another one was left out"
                check = SealCheck(
                    file, seal.digest, seal.header, (*check.faults, left_out), check.partitions
                )
            before = seal.digest
        yield check


def _checked(settings: Settings, file: Path, seal: Seal, now_ms: int) -> SealCheck:
    admin = admin_client(settings)
    faults = list[str]()
    cluster = cluster_id(admin, settings)
    if cluster != seal.header.cluster_id:
        faults.append(f"another cluster: {seal.header.cluster_id} was sealed, this is {cluster}")
    states = {state.topic.name: state for state in topic_states(admin, settings)}
    there = {name: state for name, state in states.items() if state.topic_id is not None}
    partitions = [
        Partition(one.topic, one.partition)
        for one in seal.header.ranges
        if one.topic in there and one.partition < there[one.topic].partitions
    ]
    checked = list[CheckedPartition]()
    with LogReader(settings, partitions) as log:
        retained = log.offset_ranges()
        for one, blocks in seal.contents():
            bounds, topic_id = NOTHING_THERE, None
            if (known := retained.get(Partition(one.topic, one.partition))) is not None:
                topic_id = there[one.topic].topic_id
                bounds = bounds_of(settings, there[one.topic].topic, known, now_ms)
            checked.append(
                CheckedPartition(one, topic_id, _compared(log, one, shown(blocks, one), bounds))
            )
    return SealCheck(file, seal.digest, seal.header, tuple(faults), tuple(checked))


def bounds_of(
    settings: Settings, topic: Topic, retained: tuple[int, int], now_ms: int
) -> RetentionBounds:
    """What a partition has, and what its topic's settings allow it to have lost by now."""
    config = topic.config(horizon_days=settings.audit_horizon_days, replication=1)
    lag_ms, retention_ms = config.get("min.compaction.lag.ms"), config.get("retention.ms")
    return RetentionBounds(
        first=retained[0],
        end=retained[1],
        compacted_before_ms=None if lag_ms is None else now_ms - int(lag_ms),
        expired_before_ms=None if retention_ms is None else now_ms - int(retention_ms),
    )


def _compared(
    log: LogReader, one: SealedRange, blocks: Iterator[Block], bounds: RetentionBounds
) -> Comparison:
    start, end = max(one.start, bounds.first), min(one.end, bounds.end)
    later = _read(log, one, max(one.end, bounds.first), bounds.end)
    return compare(blocks, _read(log, one, start, end), later, bounds)


def _read(log: LogReader, one: SealedRange, start: int, end: int) -> Iterator[LogRecord]:
    """Begins to read only when it is asked for a record."""
    if start < end:
        partition = Partition(one.topic, one.partition)
        log.seek({partition: start})
        yield from log.records_until({partition: end}, PATIENCE_S)


def _faults(checked: CheckedPartition) -> Iterator[str]:
    sealed, found = checked.sealed, checked.comparison
    if checked.topic_id is None:
        yield f"{sealed.topic}/{sealed.partition} is missing"
    elif checked.topic_id != sealed.topic_id:
        yield f"{sealed.topic} was made anew: its id was {sealed.topic_id}, is {checked.topic_id}"
    if found.first is not None:
        at = Coordinates(sealed.topic, sealed.partition, found.first.offset)
        where = f"{at}" if found.first.until is None else f"{at} or one before {found.first.until}"
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.findings.items()))
        rest = f", the first of {counts}" if sum(found.findings.values()) > 1 else ""
        yield f"{where} was {found.first.kind}{rest}"


def document_of(check: SealCheck) -> dict[str, Any]:
    """A check as JSON."""
    return {
        "file": str(check.file),
        "digest": check.digest,
        "key": fingerprint(check.header.key),
        "sealed_at_ms": check.header.sealed_at_ms,
        "after": check.header.after,
        "holds": check.holds,
        "faults": list(check.faults),
        "partitions": [_document_of(one) for one in check.partitions],
    }


def _document_of(checked: CheckedPartition) -> dict[str, Any]:
    sealed, found = checked.sealed, checked.comparison
    first = found.first
    return {
        "topic": sealed.topic,
        "partition": sealed.partition,
        "from": sealed.start,
        "to": sealed.end,
        "intact": found.intact,
        "compacted": found.compacted,
        "past_retention": found.expired,
        "findings": dict(found.findings),
        "first": None
        if first is None
        else {
            "at": str(Coordinates(sealed.topic, sealed.partition, first.offset)),
            "was": first.kind,
        },
        "faults": list(checked.faults),
    }
