"""`cjstream audit seal`: a signed digest over the records that the audit is based on.

Uploads, requests, outcomes and dead letters are sealed; the changelog and the parked topic are not, because their
records are removed in normal operation. Memory holds one block of records, and 32 bytes for every 1,024 records.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processors.kafka.clients import admin_client
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import TopicState, cluster_id, topic_states
from processors.log.offsets_at import positions_after, positions_from
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import CJStreamError, Discrepancy, Misconfigured
from schemas.topics import Topic, Topics
from tables.history.point_in_time import Moment
from tools.audit.seal.seal_blocks import BLOCK, Block, blocks_of
from tools.audit.seal.seal_file import RangeRoot, SealedRange, SealHeader, open_seal, write_seal
from tools.audit.seal.signing_key import fingerprint, public_bytes, signing_key
from tools.progress import bar

READ_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRequest:
    """What to seal: a range of moments, some topics, continuing a previous seal; by default everything."""

    since: Moment | None = None
    until: Moment | None = None
    topics: Collection[str] = ()
    after: Path | None = None


@dataclass(frozen=True, slots=True)
class SealReport:
    """The seal that was written."""

    file: Path
    digest: str
    header: SealHeader
    roots: tuple[RangeRoot, ...]


def seal(
    settings: Settings, request: SealRequest, key_file: Path, out: Path, *, now_ms: int
) -> SealReport:
    """Write a seal. A seal that follows another begins at its end, unless the request has a start.

    Raises Misconfigured, Unreachable, Discrepancy and CJStreamError.
    """
    key, admin = signing_key(key_file), admin_client(settings)
    wanted = _selected(sealed_topics(settings.topics), request.topics)
    states = present(topic_states(admin, settings), wanted)
    cluster = cluster_id(admin, settings)
    before = None if request.after is None else _header_and_digest(request.after)
    partitions = [partition for state in states for partition in state.all_partitions]
    with LogReader(settings, partitions) as log:
        topic_ids = {state.topic.name: str(state.topic_id) for state in states}
        ranges = _ranges(log, request, topic_ids, before[0] if before else None)
        header = SealHeader(
            cluster_id=cluster,
            topic_prefix=settings.topic_prefix,
            sealed_at_ms=now_ms,
            after=before[1] if before else None,
            key=public_bytes(key),
            ranges=ranges,
        )
        histories = {topic.name for topic in wanted if topic.retention == "history"}
        contents = _contents(log, ranges, histories)
        digest, roots = write_seal(out, header, key, contents)
    return SealReport(out, digest, header, tuple(roots))


def sealed_topics(topics: Topics) -> tuple[Topic, ...]:
    """The topics that the audit is based on."""
    return tuple(topic for topic in topics.all if topic.retention not in ("table", "parked"))


def _selected(topics: Iterable[Topic], names: Collection[str]) -> tuple[Topic, ...]:
    known = {topic.name: topic for topic in topics}
    for name in names:
        if name not in known:
            raise Misconfigured(f"--topics: {name} is not one of {', '.join(known)}")
    return tuple(topic for name, topic in known.items() if not names or name in names)


def present(states: Iterable[TopicState], topics: Collection[Topic]) -> list[TopicState]:
    """The states of these topics. Raises Discrepancy if one is missing."""
    selected = [state for state in states if state.topic in topics]
    missing = [state.topic.name for state in selected if state.topic_id is None]
    if missing:
        raise Discrepancy(f"missing topics: {', '.join(missing)}; they cannot be sealed")
    return selected


def _header_and_digest(path: Path) -> tuple[SealHeader, str]:
    with open_seal(path) as before:
        return before.header, before.digest


def _ranges(
    log: LogReader, request: SealRequest, topic_ids: Mapping[str, str], before: SealHeader | None
) -> tuple[SealedRange, ...]:
    retained = log.offset_ranges()
    starts: Positions = {partition: low for partition, (low, _) in retained.items()}
    if request.since is not None:
        starts = positions_from(log, request.since)
    elif before is not None:
        sealed_ends = {
            Partition(sealed.topic, sealed.partition): sealed.end for sealed in before.ranges
        }
        starts = {partition: sealed_ends.get(partition, low) for partition, low in starts.items()}
    ends: Positions = {partition: end for partition, (_, end) in retained.items()}
    if request.until is not None:
        ends = positions_after(log, request.until)
    for partition, start in starts.items():
        if start > ends[partition]:
            raise _reversed_range(partition, request)
    return tuple(
        SealedRange(
            partition.topic,
            topic_ids[partition.topic],
            partition.partition,
            start,
            ends[partition],
        )
        for partition, start in starts.items()
    )


def _reversed_range(partition: Partition, request: SealRequest) -> CJStreamError:
    name = f"{partition.topic}/{partition.partition}"
    if request.since is None and request.until is None:
        return Discrepancy(
            f"{name} ends before the end of the previous seal: verify that seal first"
        )
    return Misconfigured(f"--to: is before the start of the range in {name}")


def _contents(
    log: LogReader, ranges: Iterable[SealedRange], histories: Collection[str]
) -> Iterator[tuple[SealedRange, Iterator[Block]]]:
    for sealed in ranges:
        blocks = blocks_of(records_in(log, sealed), sealed.start, keys=sealed.topic in histories)
        yield sealed, with_progress(blocks, sealed)


def with_progress(blocks: Iterable[Block], sealed: SealedRange) -> Iterator[Block]:
    """The blocks of a range, counted by a progress bar."""
    count = 1 + (sealed.end - sealed.start) // BLOCK
    return bar(blocks, f"{sealed.topic}/{sealed.partition}", count)


def records_in(log: LogReader, sealed: SealedRange) -> Iterator[LogRecord]:
    """The records of a range."""
    if sealed.start >= sealed.end:
        return iter(())
    partition = Partition(sealed.topic, sealed.partition)
    log.seek({partition: sealed.start})
    return log.records_until({partition: sealed.end}, READ_TIMEOUT_S)


def document_of(report: SealReport) -> dict[str, Any]:
    """A seal as JSON, without its blocks."""
    header = report.header
    return {
        "file": str(report.file),
        "digest": report.digest,
        "key": fingerprint(header.key),
        "cluster_id": header.cluster_id,
        "sealed_at_ms": header.sealed_at_ms,
        "after": header.after,
        "records": sum(root.records for root in report.roots),
        "partitions": [
            {
                "topic": sealed.topic,
                "partition": sealed.partition,
                "from": sealed.start,
                "to": sealed.end,
                "records": root.records,
                "root": root.root.hex(),
            }
            for sealed, root in zip(header.ranges, report.roots, strict=True)
        ],
    }
