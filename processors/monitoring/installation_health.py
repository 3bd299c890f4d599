"""Health of an installation, for `doctor`: unread requests, recent dead letters."""

from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial

from confluent_kafka import Consumer, KafkaException

from processors.batch_prep.offset_check import wrong_offsets
from processors.dead_letters.open_letters import OpenLetters
from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S
from processors.kafka.clients import admin_client, reader
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import committed_by, high_watermarks
from processors.log.reader import LogReader
from processors.log.set_aside import administered_topics_with_set_aside
from processors.log.upload_topics import upload_of
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Malformed, UnknownSchema
from schemas.topics import Topic
from tables.upload_record import read_upload

READINGS = 3  # of committed offsets that workers may be moving


@dataclass(frozen=True, slots=True)
class Unread:
    """The unread offsets of one partition, and the append time of the first unread record."""

    offsets: int
    since_ms: int


def unread_requests(settings: Settings) -> dict[Partition, Unread]:
    """The requests that batch preparation has not committed yet, by partition. Raises Unreachable."""
    return _unread(settings, settings.topics.requests, settings.prep_group)


def unread_batches(settings: Settings) -> dict[Partition, Unread]:
    """The prepared batches that no judge has opened or refused yet, by partition. Raises Unreachable."""
    return _unread(settings, settings.topics.batches, settings.judge_group)


def _unread(settings: Settings, topic: Topic, group: str) -> dict[Partition, Unread]:
    """The records of a topic that a group has not committed; markers of transactions do not count."""
    unread = dict[Partition, Unread]()
    with LogReader(settings, settings.partitions_of(topic)) as log:
        ranges = log.offset_ranges()
        committed = committed_offsets(settings, group, ranges)
        lag = {
            partition: end - committed.get(partition, 0) for partition, (_, end) in ranges.items()
        }
        behind = [partition for partition in ranges if lag[partition] > 0]
        if not behind:
            return {}
        starts = {
            partition: max(committed.get(partition, 0), ranges[partition][0])
            for partition in behind
        }
        log.seek(starts)
        ends = {partition: max(ranges[partition][1], start) for partition, start in starts.items()}
        for record in log.records_until(ends):
            partition = Partition(record.at.topic, record.at.partition)
            unread.setdefault(partition, Unread(lag[partition], record.appended_at_ms))
            if len(unread) == len(behind):
                break
    return unread


def wrong_committed_offsets(settings: Settings) -> list[str]:
    """One sentence for each request partition whose committed offset does not fit its outcomes. Raises Unreachable."""
    requests, codec = settings.partitions_of(settings.topics.requests), codec_for(settings)
    admin = admin_client(settings)
    with closing(reader(settings, **{"group.id": settings.prep_group})) as group:
        for _ in range(READINGS):
            before = _stable_offsets(group, requests)
            found = wrong_offsets(settings, codec, before, partial(high_watermarks, admin))
            if not found or _stable_offsets(group, requests) == before:
                return found
    return []  # workers go on, so they do not fit for a moment only


def _stable_offsets(group: Consumer, partitions: Iterable[Partition]) -> Positions:
    """The committed offsets of the partitions that have one; empty while a transaction may change them."""
    try:
        committed = committed_by(group, partitions, REQUEST_TIMEOUT_S)
    except KafkaException:
        return {}
    return {partition: offset for partition, offset in committed.items() if offset >= 0}


def stopping_uploads(settings: Settings) -> list[str]:
    """Why the fold of upload partitions stands still, one sentence for each upload of a later release.

    Reads what the fold group has not committed, which is all of a topic that it does not read. Raises Unreachable.
    """
    partitions = settings.administered_partitions
    topics, codec = administered_topics_with_set_aside(settings), codec_for(settings)
    committed = committed_offsets(settings, settings.fold_group, partitions)
    reasons = dict[Partition, str]()
    with LogReader(settings, partitions) as log:
        ranges = log.offset_ranges()
        ends = {partition: end for partition, (_, end) in ranges.items()}
        log.seek(
            {
                partition: min(max(low, committed.get(partition, 0)), end)
                for partition, (low, end) in ranges.items()
            }
        )
        for record in log.records_until(ends):
            upload = upload_of(record)
            try:
                with suppress(Malformed):
                    read_upload(upload, codec, topics)
            except UnknownSchema as fault:
                partition = Partition(record.at.topic, record.at.partition)
                reasons.setdefault(partition, str(fault))
    return list(reasons.values())


def dead_letters_since(settings: Settings, topics: Iterable[Topic], since_ms: int) -> int:
    """The number of records that were dead-lettered since then. Raises Unreachable."""
    letters = OpenLetters()
    with LogReader(settings, settings.partitions_of(*topics)) as log:
        ends = {partition: end for partition, (_, end) in log.offset_ranges().items()}
        log.seek(log.offsets_since(since_ms))
        for record in log.records_until(ends):
            letters.add(record)
    return len(letters.letters)
