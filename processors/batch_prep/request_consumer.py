"""What the group consumer needs in order to consume requests: their outcomes and the parked topic."""

from collections.abc import Callable, Iterable
from contextlib import closing

from confluent_kafka import Consumer, TopicPartition

from processors.exactly_once.group_consumer import ConsumedTopic
from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S, SYSTEM_CLOCK, Clock
from processors.log.record_lookup import last_committed_record
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.topics import Topics


def consumed_requests(
    settings: Settings,
    take_over: Callable[[Positions, Positions], set[Partition]],
    new_reader: Callable[[], Consumer],
    open_transactions: Callable[[Iterable[Partition]], list[str]],
    clock: Clock = SYSTEM_CLOCK,
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
        if_fenced=f"another process uses slot {settings.slot}: "
        "give each worker a CJSTREAM_SLOT of its own, or none",
        take_over=take_over,
        last_outcome=newest_outcome,
        new_reader=new_reader,
        open_transactions=open_transactions,
    )


def last_outcome(consumer: Consumer, topics: Topics, partition: int, clock: Clock) -> str | None:
    """Coordinates of the newest committed outcome or parked entry of a request partition; None if there is none."""
    for topic in (*topics.outcomes, topics.parked):
        tp = Partition(topic.name, partition)
        low, high = consumer.get_watermark_offsets(
            TopicPartition(*tp), timeout=REQUEST_TIMEOUT_S, cached=False
        )
        if newest := last_committed_record(consumer, tp, low, high, clock):
            return newest
    return None
