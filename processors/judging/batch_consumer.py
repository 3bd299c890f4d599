"""What the group consumer needs in order to consume prepared batches: where to start, and the judging log."""

from collections.abc import Callable, Collection, Iterable
from contextlib import closing

from confluent_kafka import Consumer, TopicPartition

from processors.exactly_once.group_consumer import ConsumedTopic
from processors.exactly_once.slot import Slot
from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S, SYSTEM_CLOCK, Clock
from processors.kafka.offsets import committed_by, log_start
from processors.log.record_lookup import last_committed_record
from processors.settings import Settings
from schemas.coordinates import Partition, Positions

NO_OFFSET = -1  # committed offsets below 0 say that there is none


def consumed_batches(
    settings: Settings,
    take_over: Callable[[Positions, Positions], set[Partition]],
    new_reader: Callable[[], Consumer],
    open_transactions: Callable[[Iterable[Partition]], list[str]],
    clock: Clock = SYSTEM_CLOCK,
    slot: Slot | None = None,
) -> ConsumedTopic:
    """The batches topic; a new owner of one of its partitions also takes over the judging partition."""
    topics = settings.topics

    def newest_record(number: int) -> str | None:
        with closing(new_reader()) as consumer:
            for topic in (topics.results, topics.judging):
                tp = Partition(topic.name, number)
                low, high = consumer.get_watermark_offsets(
                    TopicPartition(*tp), timeout=REQUEST_TIMEOUT_S, cached=False
                )
                if newest := last_committed_record(consumer, tp, low, high, clock):
                    return newest
        return None

    def first_offsets(consumer: Consumer, missing: Collection[Partition]) -> Positions:
        """For all partitions at once if none has an offset; a partition that was added later starts at 0."""
        partitions = settings.partitions_of(topics.batches)
        committed = committed_by(consumer, partitions, REQUEST_TIMEOUT_S)
        if any(offset > NO_OFFSET for offset in committed.values()):
            return dict.fromkeys(missing, 0)
        if settings.judge_first_start == "beginning":
            return {tp: log_start(consumer, tp) for tp in partitions}
        return {
            tp: consumer.get_watermark_offsets(
                TopicPartition(*tp), timeout=REQUEST_TIMEOUT_S, cached=False
            )[1]
            for tp in partitions
        }

    return ConsumedTopic(
        topic=topics.batches.name,
        state_topic=topics.judging.name,
        group=settings.judge_group,
        slot=slot,
        if_fenced=f"another judge uses slot {settings.slot}: "
        "give each judge a CJSTREAM_SLOT of its own, or none",
        take_over=take_over,
        last_outcome=newest_record,
        new_reader=new_reader,
        open_transactions=open_transactions,
        first_offsets=first_offsets,
        remedy="`cjstream batches reset-offsets` sets it",
    )
