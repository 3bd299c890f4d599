"""`cjstream audit seal`: a signed digest over the records that the audit is based on.

Uploads, requests, outcomes, dead letters, judging and results are sealed; the changelog and the parked topic are not,
because their records are removed in normal operation. Memory holds one block of records, and 32 bytes for every 1,024
records.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from processors.kafka.clients import admin_client
from processors.kafka.records import LogRecord
from processors.kafka.topic_admin import TopicState, cluster_id, topic_states
from processors.log.offsets_at import positions_after, positions_from
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy, Misconfigured
from schemas.topics import Topic, Topics
from tables.history.point_in_time import Moment
from tools.audit.seal.seal_blocks import BLOCK, Block, blocks_of
from tools.audit.seal.seal_file import RangeRoot, SealedRange, SealHeader, open_seal, write_seal
from tools.audit.seal.signing_key import fingerprint, public_bytes, signing_key
from tools.progress import bar

READ_TIMEOUT_S = 30.0


def seal(
    settings: Settings,
    key_file: Path,
    out: Path,
    *,
    now_ms: int,
    since: Moment | None = None,
    until: Moment | None = None,
    topics: Collection[str] = (),
    after: Path | None = None,
) -> dict[str, Any]:
    """Write a seal, by default of everything; returns its description as JSON, without its blocks.

    A seal that follows another one, `after`, begins at its end, unless there is a start. Raises Misconfigured,
    Unreachable, Discrepancy and CJStreamError.
    """
    key, admin = signing_key(key_file), admin_client(settings)
    wanted = _selected(sealed_topics(settings.topics), topics)
    states = present(topic_states(admin, settings), wanted)
    cluster, digest_before, ends_before = cluster_id(admin, settings), None, dict[Partition, int]()
    if after is not None:
        with open_seal(after) as before:
            digest_before = before.digest
            ends_before = {one.topic_partition: one.end for one in before.header.ranges}
    partitions = [partition for state in states for partition in state.all_partitions]
    with LogReader(settings, partitions) as log:
        starts, ends = _range(log, since, until, ends_before)
        topic_ids = {state.topic.name: str(state.topic_id) for state in states}
        header = SealHeader(
            cluster_id=cluster,
            topic_prefix=settings.topic_prefix,
            sealed_at_ms=now_ms,
            after=digest_before,
            key=public_bytes(key),
            ranges=tuple(
                SealedRange(topic, topic_ids[topic], number, start, ends[Partition(topic, number)])
                for (topic, number), start in starts.items()
            ),
        )
        histories = {topic.name for topic in wanted if topic.retention == "history"}
        contents = _contents(log, header.ranges, histories)
        digest, roots = write_seal(out, header, key, contents)
    return _document_of(out, digest, header, roots)


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


def _range(
    log: LogReader, since: Moment | None, until: Moment | None, ends_before: Positions
) -> tuple[Positions, Positions]:
    """Where the seal starts and ends in each partition; ends_before are the ends of the previous seal."""
    retained = log.offset_ranges()
    starts: Positions = {
        partition: ends_before.get(partition, low) for partition, (low, _) in retained.items()
    }
    ends: Positions = {partition: end for partition, (_, end) in retained.items()}
    if since is not None:
        starts = positions_from(log, since)
    if until is not None:
        ends = positions_after(log, until)
    for partition, start in starts.items():
        if start > ends[partition]:
            name = f"{partition.topic}/{partition.partition}"
            if since is None and until is None:
                before = "ends before the end of the previous seal: verify that seal first"
                raise Discrepancy(f"{name} {before}")
            raise Misconfigured(f"--to: is before the start of the range in {name}")
    return starts, ends


def _contents(
    log: LogReader, ranges: Iterable[SealedRange], histories: Collection[str]
) -> Iterator[tuple[SealedRange, Iterator[Block]]]:
    for sealed in ranges:
        records = records_in(log, sealed, sealed.start, sealed.end)
        blocks = blocks_of(records, sealed.start, keys=sealed.topic in histories)
        yield sealed, with_progress(blocks, sealed)


def with_progress(blocks: Iterable[Block], sealed: SealedRange) -> Iterator[Block]:
    """The blocks of a range, counted by a progress bar."""
    count = 1 + (sealed.end - sealed.start) // BLOCK
    return bar(blocks, f"{sealed.topic}/{sealed.partition}", count)


def records_in(log: LogReader, sealed: SealedRange, start: int, end: int) -> Iterator[LogRecord]:
    """The records of its partition in [start, end); reading begins with the first `next`."""
    if start < end:
        log.seek({sealed.topic_partition: start})
        yield from log.records_until({sealed.topic_partition: end}, READ_TIMEOUT_S)


def _document_of(
    file: Path, digest: str, header: SealHeader, roots: list[RangeRoot]
) -> dict[str, Any]:
    partitions = [
        {
            "topic": sealed.topic,
            "partition": sealed.partition,
            "from": sealed.start,
            "to": sealed.end,
            "records": root.records,
            "root": root.root.hex(),
        }
        for sealed, root in zip(header.ranges, roots, strict=True)
    ]
    return {
        "file": str(file),
        "digest": digest,
        "key": fingerprint(header.key),
        "cluster_id": header.cluster_id,
        "sealed_at_ms": header.sealed_at_ms,
        "after": header.after,
        "records": sum(root.records for root in roots),
        "partitions": partitions,
    }
