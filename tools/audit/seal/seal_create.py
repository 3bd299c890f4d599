"""`cjstream audit seal`: a signed digest over the records that the audit rests on.

Sealed are uploads, requests, outcomes and dead letters; not the table's changelog nor what is parked, whose records
rightly vanish. One block of records is in memory at a time, and 32 bytes for every 1,024 records.
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

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRequest:
    """What is to be sealed: from a moment to another, of these topics, after a seal; None: all that there is."""

    since: Moment | None = None
    until: Moment | None = None
    topics: Collection[str] = ()
    after: Path | None = None


@dataclass(frozen=True, slots=True)
class SealReport:
    """A seal that was written."""

    file: Path
    digest: str
    header: SealHeader
    roots: tuple[RangeRoot, ...]


def seal(
    settings: Settings, asked: SealRequest, key_file: Path, out: Path, *, now_ms: int
) -> SealReport:
    """Write a seal. A seal after another begins, unless it is told where, at that one's end.

    Raises Misconfigured, Unreachable, Discrepancy and CJStreamError.
    """
    key, admin = signing_key(key_file), admin_client(settings)
    wanted = _named(sealed_topics(settings.topics), asked.topics)
    states = present(topic_states(admin, settings), wanted)
    cluster = cluster_id(admin, settings)
    before = None if asked.after is None else _header_and_digest(asked.after)
    partitions = [
        Partition(state.topic.name, one) for state in states for one in range(state.partitions)
    ]
    with LogReader(settings, partitions) as log:
        ids = {state.topic.name: str(state.topic_id) for state in states}
        ranges = _ranges(log, asked, ids, before[0] if before else None)
        header = SealHeader(
            cluster_id=cluster,
            topic_prefix=settings.topic_prefix,
            sealed_at_ms=now_ms,
            after=before[1] if before else None,
            key=public_bytes(key),
            ranges=ranges,
        )
        histories = {topic.name for topic in wanted if topic.kept == "history"}
        contents = _contents(log, ranges, histories)
        digest, roots = write_seal(out, header, key, contents)
    return SealReport(out, digest, header, tuple(roots))


def sealed_topics(topics: Topics) -> tuple[Topic, ...]:
    """The topics that the audit rests on."""
    return tuple(one for one in topics.all if one.kept not in ("table", "parked"))


def _named(topics: Iterable[Topic], names: Collection[str]) -> tuple[Topic, ...]:
    known = {topic.name: topic for topic in topics}
    for name in names:
        if name not in known:
            raise Misconfigured(f"--topics: {name} is none of {', '.join(known)}")
    return tuple(topic for name, topic in known.items() if not names or name in names)


def present(states: Iterable[TopicState], topics: Collection[Topic]) -> list[TopicState]:
    """The states of these topics. Raises Discrepancy where one is missing."""
    asked = [state for state in states if state.topic in topics]
    missing = [state.topic.name for state in asked if state.topic_id is None]
    if missing:
        raise Discrepancy(f"missing topics: {', '.join(missing)}; they cannot be sealed")
    return asked


def _header_and_digest(path: Path) -> tuple[SealHeader, str]:
    with open_seal(path) as before:
        return before.header, before.digest


def _ranges(
    log: LogReader, asked: SealRequest, topic_ids: Mapping[str, str], before: SealHeader | None
) -> tuple[SealedRange, ...]:
    retained = log.offset_ranges()
    starts: Positions = {one: low for one, (low, _) in retained.items()}
    if asked.since is not None:
        starts = positions_from(log, asked.since)
    elif before is not None:
        sealed = {Partition(one.topic, one.partition): one.end for one in before.ranges}
        starts = {one: sealed.get(one, low) for one, low in starts.items()}
    ends: Positions = {one: end for one, (_, end) in retained.items()}
    if asked.until is not None:
        ends = positions_after(log, asked.until)
    for one, start in starts.items():
        if start > ends[one]:
            raise _backwards(one, asked)
    return tuple(
        SealedRange(one.topic, topic_ids[one.topic], one.partition, start, ends[one])
        for one, start in starts.items()
    )


def _backwards(one: Partition, asked: SealRequest) -> CJStreamError:
    at = f"{one.topic}/{one.partition}"
    if asked.since is None and asked.until is None:
        return Discrepancy(f"{at} ends before the end of the seal before this: check that first")
    return Misconfigured(f"--to: ends before the beginning at {at}")


def _contents(
    log: LogReader, ranges: Iterable[SealedRange], histories: Collection[str]
) -> Iterator[tuple[SealedRange, Iterator[Block]]]:
    for one in ranges:
        blocks = blocks_of(records_in(log, one), one.start, keys=one.topic in histories)
        yield one, shown(blocks, one)


def shown(blocks: Iterable[Block], one: SealedRange) -> Iterator[Block]:
    """The blocks of a range, as a progress bar counts them."""
    return bar(blocks, f"{one.topic}/{one.partition}", 1 + (one.end - one.start) // BLOCK)


def records_in(log: LogReader, one: SealedRange) -> Iterator[LogRecord]:
    """The records of a range."""
    if one.start >= one.end:
        return iter(())
    partition = Partition(one.topic, one.partition)
    log.seek({partition: one.start})
    return log.records_until({partition: one.end}, PATIENCE_S)


def document_of(sealed: SealReport) -> dict[str, Any]:
    """A seal as JSON, without its blocks."""
    header = sealed.header
    return {
        "file": str(sealed.file),
        "digest": sealed.digest,
        "key": fingerprint(header.key),
        "cluster_id": header.cluster_id,
        "sealed_at_ms": header.sealed_at_ms,
        "after": header.after,
        "records": sum(one.records for one in sealed.roots),
        "partitions": [
            {
                "topic": one.topic,
                "partition": one.partition,
                "from": one.start,
                "to": one.end,
                "records": came_to.records,
                "root": came_to.root.hex(),
            }
            for one, came_to in zip(header.ranges, sealed.roots, strict=True)
        ],
    }
