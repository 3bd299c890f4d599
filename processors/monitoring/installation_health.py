"""Health of an installation, for `doctor`: unread requests, recent dead letters."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from processors.dead_letters.open_letters import OpenLetters
from processors.kafka.consumer_groups import committed_offsets
from processors.log.reader import LogReader
from processors.log.set_aside import upload_topics_with_set_aside
from processors.log.upload_topics import upload_of
from processors.registry.registry_codec import codec_for
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import Malformed, UnknownSchema
from schemas.topics import Topic
from tables.upload_record import read_upload


@dataclass(frozen=True, slots=True)
class Unread:
    """The unread offsets of one partition, and the append time of the first unread record."""

    offsets: int
    since_ms: int


def unread_requests(settings: Settings) -> dict[Partition, Unread]:
    """The requests that are not committed yet, by partition; markers do not count. Raises Unreachable."""
    unread = dict[Partition, Unread]()
    with LogReader(settings, settings.partitions_of(settings.topics.requests)) as log:
        ranges = log.offset_ranges()
        committed = committed_offsets(settings, settings.prep_group, ranges)
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


def stopping_uploads(settings: Settings) -> list[str]:
    """Why the fold of upload partitions stands still, one sentence for each upload of a later release.

    Reads what the fold group has not committed. Raises Unreachable.
    """
    partitions = settings.upload_partitions
    topics, codec = upload_topics_with_set_aside(settings), codec_for(settings)
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
