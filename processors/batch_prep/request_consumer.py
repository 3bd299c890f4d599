"""What the group consumer needs in order to consume requests: their outcomes and the parked topic."""

import logging
from collections.abc import Callable, Iterable
from contextlib import closing, suppress

from confluent_kafka import Consumer, Message, TopicPartition

from processors.exactly_once.group_consumer import ConsumedTopic, no_wrong_offsets
from processors.exactly_once.slot import Slot
from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S, SYSTEM_CLOCK, Clock
from processors.kafka.records import LogRecord, coordinates_of, log_record_of
from processors.log.record_lookup import last_committed_record
from processors.outcomes.answered_request import dead_lettered_offset, offset_in
from processors.parking.parked_record import CLOCK_KEY, request_of_key
from processors.settings import Settings
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from schemas.topics import Topics

log = logging.getLogger("cjstream.fetch")
MAX_NAMED = 20  # foreign records


def consumed_requests(
    settings: Settings,
    take_over: Callable[[Positions, Positions], set[Partition]],
    new_reader: Callable[[], Consumer],
    open_transactions: Callable[[Iterable[Partition]], list[str]],
    clock: Clock = SYSTEM_CLOCK,
    wrong_offsets: Callable[[Positions], list[str]] = no_wrong_offsets,
    slot: Slot | None = None,
) -> ConsumedTopic:
    """The request topic; a new owner of one of its partitions also takes over the parked partition."""

    def newest_outcome(partition: int) -> str | None:
        with closing(new_reader()) as consumer:
            return last_outcome(consumer, settings.topics, partition, clock)

    topics = settings.topics
    return ConsumedTopic(
        topic=topics.requests.name,
        state_topic=topics.parked.name,
        group=settings.prep_group,
        slot=slot,
        if_fenced=f"another process uses slot {settings.slot}: "
        "give each worker a CJSTREAM_SLOT of its own, or none",
        take_over=take_over,
        last_outcome=newest_outcome,
        new_reader=new_reader,
        open_transactions=open_transactions,
        wrong_offsets=wrong_offsets,
        partitions=settings.partitions,
    )


def last_outcome(consumer: Consumer, topics: Topics, partition: int, clock: Clock) -> str | None:
    """Coordinates of the newest committed outcome or parked entry of a request partition; None if there is none.

    A record that names no request of the partition does not count: some other producer wrote it.
    """
    foreign = set[Coordinates]()

    def log_range(topic: str) -> tuple[int, int]:
        low, high = consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S, cached=False
        )
        return low, high

    _, end = log_range(topics.requests.name)

    def names_request(message: Message) -> bool:
        is_named = _names_request(message, topics, partition, end)
        if not is_named:
            foreign.add(coordinates_of(message))
        return is_named

    newest = None
    for topic in (*topics.outcomes, topics.parked):
        tp = Partition(topic.name, partition)
        low, high = log_range(topic.name)
        newest = newest or last_committed_record(consumer, tp, low, high, clock, names_request)
    if foreign:
        named = [str(at) for at in sorted(foreign)[:MAX_NAMED]]
        log.warning(
            "records that name no request are skipped", extra={"count": len(foreign), "at": named}
        )
    return newest


def _names_request(message: Message, topics: Topics, partition: int, end: int) -> bool:
    """Whether a record is an outcome, of any release, or a parked entry, of a request of its partition."""
    offset = request_offset(log_record_of(message), topics)
    if message.topic() == topics.parked.name and offset is None:
        return message.key() == CLOCK_KEY and message.value() is None
    if message.topic() in (topics.parked.name, topics.requests_dlq.name):
        return offset is not None and offset < end
    # at the end or above: the topic was deleted and created again, and its requests had outcomes
    return offset is not None


def request_offset(record: LogRecord, topics: Topics) -> int | None:
    """The offset of the request that an outcome or parked entry of its partition names; None if it names none."""
    requests, partition = topics.requests.name, record.at.partition
    if record.at.topic == topics.parked.name:
        with suppress(Malformed):
            return request_of_key(record.key, requests, partition).offset
        return None
    if record.at.topic == topics.requests_dlq.name:
        return dead_lettered_offset(record.headers, requests, partition)
    return offset_in(record.value or b"", f"{requests}/{partition}@".encode())
