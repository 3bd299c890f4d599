"""`cjstream audit verify --seal`: whether the log still says what was sealed, or which record differs first."""

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
from tools.audit.seal.seal_create import READ_TIMEOUT_S, with_progress
from tools.audit.seal.seal_file import Seal, SealedRange, SealHeader, open_seal
from tools.audit.seal.signing_key import fingerprint

DAY_MS = 86_400_000
NO_RECORDS = RetentionBounds(first=0, end=0)


@dataclass(frozen=True, slots=True)
class CheckedPartition:
    """One partition compared with its seal; topic_id is the topic's current id, None if the partition is missing."""

    sealed: SealedRange
    topic_id: str | None
    comparison: Comparison

    @property
    def faults(self) -> tuple[str, ...]:
        """The problems of the partition, one line each; empty if it is as it was sealed."""
        return tuple(_faults(self))


@dataclass(frozen=True, slots=True)
class SealCheck:
    """A seal compared with the log; faults are those of the seal as a whole."""

    file: Path
    digest: str
    header: SealHeader
    faults: tuple[str, ...]
    partitions: tuple[CheckedPartition, ...]

    @property
    def holds(self) -> bool:
        """Whether the log still says exactly what was sealed."""
        return not self.faults and not any(partition.faults for partition in self.partitions)


def check_seals(
    settings: Settings, files: Sequence[Path], trusted: bytes | None, *, now_ms: int
) -> Iterator[SealCheck]:
    """Compare the log with seals; of several seals, each must name the one before it.

    `trusted` is the public key that must have signed them; None accepts the key that each seal names. Raises
    Misconfigured for a file that is not a seal, Discrepancy for a seal that was altered, Unreachable.
    """
    before: str | None = None
    for file in files:
        with open_seal(file, trusted) as seal:
            check = _check(settings, file, seal, now_ms)
            if before is not None and seal.header.after != before:
                left_out = (
                    "it does not follow the seal given before it: a seal in between is missing"
                )
                check = SealCheck(
                    file, seal.digest, seal.header, (*check.faults, left_out), check.partitions
                )
            before = seal.digest
        yield check


def _check(settings: Settings, file: Path, seal: Seal, now_ms: int) -> SealCheck:
    admin = admin_client(settings)
    faults = list[str]()
    cluster = cluster_id(admin, settings)
    if cluster != seal.header.cluster_id:
        faults.append(f"another cluster: {seal.header.cluster_id} was sealed, this is {cluster}")
    states = {state.topic.name: state for state in topic_states(admin, settings)}
    existing = {name: state for name, state in states.items() if state.topic_id is not None}
    partitions = [
        Partition(sealed.topic, sealed.partition)
        for sealed in seal.header.ranges
        if sealed.topic in existing and sealed.partition < existing[sealed.topic].partitions
    ]
    checked = list[CheckedPartition]()
    with LogReader(settings, partitions) as log:
        retained = log.offset_ranges()
        for sealed, blocks in seal.contents():
            bounds, topic_id = NO_RECORDS, None
            if (offsets := retained.get(Partition(sealed.topic, sealed.partition))) is not None:
                topic_id = existing[sealed.topic].topic_id
                bounds = bounds_of(settings, existing[sealed.topic].topic, offsets, now_ms)
            comparison = _compare(log, sealed, with_progress(blocks, sealed), bounds)
            checked.append(CheckedPartition(sealed, topic_id, comparison))
    return SealCheck(file, seal.digest, seal.header, tuple(faults), tuple(checked))


def bounds_of(
    settings: Settings, topic: Topic, retained: tuple[int, int], now_ms: int
) -> RetentionBounds:
    """A partition's current offsets, and what its topic's settings allow it to have lost by now."""
    config = topic.config(horizon_days=settings.audit_horizon_days, replication=1)
    lag_ms, retention_ms = config.get("min.compaction.lag.ms"), config.get("retention.ms")
    return RetentionBounds(
        first=retained[0],
        end=retained[1],
        compacted_before_ms=None if lag_ms is None else now_ms - int(lag_ms),
        expired_before_ms=None if retention_ms is None else now_ms - int(retention_ms),
    )


def _compare(
    log: LogReader, sealed: SealedRange, blocks: Iterator[Block], bounds: RetentionBounds
) -> Comparison:
    start, end = max(sealed.start, bounds.first), min(sealed.end, bounds.end)
    later = _records(log, sealed, max(sealed.end, bounds.first), bounds.end)
    return compare(blocks, _records(log, sealed, start, end), later, bounds)


def _records(log: LogReader, sealed: SealedRange, start: int, end: int) -> Iterator[LogRecord]:
    """The records in [start, end); reading begins with the first `next`."""
    if start < end:
        partition = Partition(sealed.topic, sealed.partition)
        log.seek({partition: start})
        yield from log.records_until({partition: end}, READ_TIMEOUT_S)


def _faults(checked: CheckedPartition) -> Iterator[str]:
    sealed, found = checked.sealed, checked.comparison
    if checked.topic_id is None:
        yield f"{sealed.topic}/{sealed.partition} is missing"
    elif checked.topic_id != sealed.topic_id:
        yield f"{sealed.topic} was recreated: its id was {sealed.topic_id}, is {checked.topic_id}"
    if found.first is not None:
        at = Coordinates(sealed.topic, sealed.partition, found.first.offset)
        until = found.first.until
        where = f"{at}" if until is None else f"{at} or a later record below offset {until}"
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.findings.items()))
        more = f", the first of {counts}" if sum(found.findings.values()) > 1 else ""
        yield f"{where} was {found.first.kind}{more}"


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
        "partitions": [_partition_document(partition) for partition in check.partitions],
    }


def _partition_document(checked: CheckedPartition) -> dict[str, Any]:
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
