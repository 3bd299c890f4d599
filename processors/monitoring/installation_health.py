"""Health of an installation, for `doctor`: unread requests, recent dead letters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec

from processors.dead_letters.open_letters import OpenLetters
from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import last_stable_offsets, list_offsets
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Unread:
    """The unread offsets of one partition, and the append time of the first unread record."""

    offsets: int
    since_ms: int


def unread_requests(settings: Settings, admin: AdminClient) -> dict[Partition, Unread]:
    """The requests that are not committed yet, by partition; markers do not count. Raises Unreachable."""
    partitions = settings.partitions_of(settings.topics.requests)
    ends = last_stable_offsets(admin, partitions, REQUEST_TIMEOUT_S)
    committed = committed_offsets(settings, settings.prep_group, partitions)
    behind = {partition: (committed.get(partition, 0), end) for partition, end in ends.items()}
    first = first_append_times(settings, behind)
    return {
        partition: Unread(behind[partition][1] - behind[partition][0], since_ms)
        for partition, since_ms in first.items()
    }


def first_append_times(
    settings: Settings, ranges: Mapping[Partition, tuple[int, int]]
) -> dict[Partition, int]:
    """The append time (ms) of the first record in each range of offsets that has one. Raises Unreachable."""
    ranges = {partition: (start, end) for partition, (start, end) in ranges.items() if start < end}
    if not ranges:
        return {}
    found = dict[Partition, int]()
    with LogReader(settings, ranges) as log:
        lows = log.offset_ranges()
        starts = {
            partition: max(start, lows[partition][0]) for partition, (start, _) in ranges.items()
        }
        log.seek(starts)
        for record in log.records_until(
            {partition: max(end, starts[partition]) for partition, (_, end) in ranges.items()}
        ):
            found.setdefault(Partition(record.at.topic, record.at.partition), record.appended_at_ms)
            if len(found) == len(ranges):
                break
    return found


def dead_letters_since(
    settings: Settings, admin: AdminClient, topics: Iterable[Topic], since_ms: int
) -> int:
    """The number of records that were dead-lettered since then. Raises Unreachable."""
    partitions = settings.partitions_of(*topics)
    ends = last_stable_offsets(admin, partitions, REQUEST_TIMEOUT_S)
    starts = _offsets_at(admin, partitions, since_ms)
    letters = OpenLetters()
    with LogReader(settings, partitions) as log:
        log.seek({partition: starts.get(partition, end) for partition, end in ends.items()})
        for record in log.records_until(ends):
            letters.add(record)
    return len(letters.letters)


def _offsets_at(admin: AdminClient, partitions: Iterable[Partition], time_ms: int) -> Positions:
    """The first offset that was appended at that time or later; partitions without one are missing."""
    try:
        return list_offsets(
            admin, partitions, OffsetSpec.for_timestamp(time_ms), may_be_missing=True
        )
    except KafkaException as fault:
        raise Unreachable(f"offsets by time are not available: {fault.args[0].name()}") from fault
