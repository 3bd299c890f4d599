"""`cjstream audit verify --seal`: whether the log still says what was sealed, or which record differs first.

The partitions of a seal are compared by one process for each core, if there are many records.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processors.kafka.clients import admin_client
from processors.kafka.topic_admin import cluster_id, topic_states
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition
from schemas.topics import Topic
from tools.audit.process_pool import in_processes, processes_for, split_evenly
from tools.audit.seal.partition_diff import Comparison, RetentionBounds, compare
from tools.audit.seal.seal_create import records_in
from tools.audit.seal.seal_file import SealedRange, SealHeader, open_seal
from tools.audit.seal.signing_key import fingerprint
from tools.progress import bar

DAY_MS = 86_400_000
NO_RECORDS = RetentionBounds(first=0, end=0)


def check_seals(
    settings: Settings,
    files: Sequence[Path],
    trusted: bytes | None,
    *,
    now_ms: int,
    processes: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Compare the log with seals; of several seals, each must name the one before it. Yields a JSON document for each.

    `trusted` is the public key that must have signed them; None accepts the key that each seal names. Raises
    Misconfigured for a file that is not a seal, Discrepancy for a seal that was altered, Unreachable.
    """
    before: str | None = None
    for file in files:
        with open_seal(file, trusted) as seal:
            header, digest = seal.header, seal.digest
        faults = list(_seal_faults(settings, header, before))
        before = digest
        partitions = _compared(SealWork(settings, file, trusted, now_ms), header, processes)
        yield {
            "file": str(file),
            "digest": digest,
            "key": fingerprint(header.key),
            "sealed_at_ms": header.sealed_at_ms,
            "after": header.after,
            "holds": not faults and not any(partition["faults"] for partition in partitions),
            "faults": faults,
            "partitions": partitions,
        }


@dataclass(frozen=True, slots=True)
class SealWork:
    """A seal to compare with the log."""

    settings: Settings
    file: Path
    trusted: bytes | None
    now_ms: int


def _seal_faults(settings: Settings, header: SealHeader, before: str | None) -> Iterator[str]:
    """Faults of a seal as a whole; `before` is the digest of the seal given before it."""
    cluster = cluster_id(admin_client(settings), settings)
    if cluster != header.cluster_id:
        yield f"another cluster: {header.cluster_id} was sealed, this is {cluster}"
    if before is not None and header.after != before:
        yield "it does not follow the seal given before it: a seal in between is missing"


def _compared(work: SealWork, header: SealHeader, processes: int | None) -> list[dict[str, Any]]:
    """Each partition compared with its seal, as JSON, in the seal's order."""
    records = sum(sealed.end - sealed.start for sealed in header.ranges)
    groups = split_evenly(header.ranges, processes or processes_for(records))
    compared = in_processes([(work, frozenset(group)) for group in groups], _compare_ranges)
    documents = dict(bar(compared, work.file.name, len(header.ranges)))
    return [documents[sealed.topic_partition] for sealed in header.ranges]


def _compare_ranges(
    work: SealWork, wanted: Collection[SealedRange]
) -> Iterator[tuple[Partition, dict[str, Any]]]:
    """Compare these ranges of a seal with the log."""
    settings = work.settings
    states = {state.topic.name: state for state in topic_states(admin_client(settings), settings)}
    existing = {name: state for name, state in states.items() if state.topic_id is not None}
    partitions = [
        sealed.topic_partition
        for sealed in wanted
        if sealed.topic in existing and sealed.partition < existing[sealed.topic].partitions
    ]
    with open_seal(work.file, work.trusted) as seal, LogReader(settings, partitions) as log:
        retained = log.offset_ranges()
        for sealed, blocks in seal.contents():
            if sealed not in wanted:
                deque(blocks, maxlen=0)
                continue
            bounds, topic_id = NO_RECORDS, None
            if (offsets := retained.get(sealed.topic_partition)) is not None:
                topic_id = existing[sealed.topic].topic_id
                bounds = bounds_of(settings, existing[sealed.topic].topic, offsets, work.now_ms)
            start, end = max(sealed.start, bounds.first), min(sealed.end, bounds.end)
            later = records_in(log, sealed, max(sealed.end, bounds.first), bounds.end)
            records = records_in(log, sealed, start, end)
            found = compare(blocks, records, later, bounds)
            faults = list(_faults(sealed, topic_id, found))
            yield sealed.topic_partition, _document_of(sealed, found, faults)


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


def _faults(sealed: SealedRange, topic_id: str | None, found: Comparison) -> Iterator[str]:
    """The problems of a partition; topic_id is the topic's current id, None if the partition is missing."""
    if topic_id is None:
        yield f"{sealed.topic}/{sealed.partition} is missing"
    elif topic_id != sealed.topic_id:
        yield f"{sealed.topic} was recreated: its id was {sealed.topic_id}, is {topic_id}"
    if found.first is not None:
        at = Coordinates(sealed.topic, sealed.partition, found.first.offset)
        until = found.first.until
        where = f"{at}" if until is None else f"{at} or a later record below offset {until}"
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.findings.items()))
        more = f", the first of {counts}" if sum(found.findings.values()) > 1 else ""
        yield f"{where} was {found.first.kind}{more}"


def _document_of(sealed: SealedRange, found: Comparison, faults: list[str]) -> dict[str, Any]:
    first = None
    if found.first is not None:
        at = Coordinates(sealed.topic, sealed.partition, found.first.offset)
        first = {"at": str(at), "was": found.first.kind}
    return {
        "topic": sealed.topic,
        "partition": sealed.partition,
        "from": sealed.start,
        "to": sealed.end,
        "intact": found.intact,
        "compacted": found.compacted,
        "past_retention": found.expired,
        "findings": dict(found.findings),
        "first": first,
        "faults": faults,
    }
