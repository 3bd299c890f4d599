"""How an installation fares, asked from outside: what is unread and since when, what is held, what died."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from processors.dead_letters.open_letters import OpenLetters
from processors.kafka.bounded_wait import ANSWER_S, result_of
from processors.kafka.consumer_groups import committed_offsets
from processors.kafka.offsets import high_watermarks, last_stable_offsets
from processors.kafka.partitions import partitions_of
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Unreachable
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Unread:
    """What of one partition is still to be read: offsets, and since when the first record stands there."""

    offsets: int
    since_ms: int


def unread_requests(settings: Settings, admin: AdminClient) -> dict[Partition, Unread]:
    """What batch preparation has yet to commit, by partition; markers alone are nothing. Raises Unreachable."""
    partitions = partitions_of([settings.topics.requests.name], settings)
    ends = last_stable_offsets(admin, partitions, ANSWER_S)
    committed = committed_offsets(settings, settings.prep_group, partitions)
    behind = {at: (committed.get(at, 0), end) for at, end in ends.items()}
    first = first_appended(settings, behind)
    return {at: Unread(behind[at][1] - behind[at][0], since) for at, since in first.items()}


def open_transactions(settings: Settings, admin: AdminClient) -> dict[Partition, int]:
    """The partitions with an open transaction, and since when its first record stands there (ms).

    Raises Unreachable.
    """
    partitions = partitions_of((topic.name for topic in settings.topics.all), settings)
    stable = last_stable_offsets(admin, partitions, ANSWER_S)
    high = high_watermarks(admin, partitions, ANSWER_S)
    held = {at: (stable[at], end) for at, end in high.items()}
    return first_appended(settings, held, uncommitted=True)


def first_appended(
    settings: Settings,
    ranges: Mapping[Partition, tuple[int, int]],
    *,
    uncommitted: bool = False,
) -> dict[Partition, int]:
    """The append time (ms) of the first record in each range of offsets that has one. Raises Unreachable."""
    ranges = {at: (start, end) for at, (start, end) in ranges.items() if start < end}
    if not ranges:
        return {}
    found = dict[Partition, int]()
    with LogReader(settings, ranges, uncommitted=uncommitted) as log:
        lows = log.offset_ranges()
        starts = {at: max(start, lows[at][0]) for at, (start, _) in ranges.items()}
        log.seek(starts)
        for record in log.records_until(
            {at: max(end, starts[at]) for at, (_, end) in ranges.items()}
        ):
            found.setdefault(Partition(record.at.topic, record.at.partition), record.appended_at_ms)
            if len(found) == len(ranges):
                break
    return found


def dead_letters_since(
    settings: Settings, admin: AdminClient, topics: Iterable[Topic], since_ms: int
) -> int:
    """How many records were dead-lettered since then. Raises Unreachable."""
    partitions = partitions_of((topic.name for topic in topics), settings)
    ends = last_stable_offsets(admin, partitions, ANSWER_S)
    starts = _offsets_at(admin, partitions, since_ms)
    found = OpenLetters()
    with LogReader(settings, partitions) as log:
        log.seek({at: starts.get(at, end) for at, end in ends.items()})
        for record in log.records_until(ends):
            found.learn(record)
    return len(found.letters)


def _offsets_at(admin: AdminClient, partitions: Iterable[Partition], at_ms: int) -> Positions:
    """The first offset that was appended then or later; none where there is none."""
    asked = {TopicPartition(*one): OffsetSpec.for_timestamp(at_ms) for one in partitions}
    futures = admin.list_offsets(asked, request_timeout=ANSWER_S)
    try:
        found = {
            Partition(at.topic, at.partition): result_of(future).offset
            for at, future in futures.items()
        }
    except KafkaException as fault:
        raise Unreachable(f"no offsets by time: {fault.args[0].name()}") from fault
    return {at: offset for at, offset in found.items() if offset >= 0}
