"""Polls a consumer for records, and asks it for its positions."""

import logging
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from schemas.coordinates import Partition
from schemas.errors import Discrepancy, Fenced, SlotTaken

log = logging.getLogger("cjstream.poll")
# a fatal error names its cause in its text only
FENCED, NOT_RELEASED = (
    KafkaError(code).str()
    for code in (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID)
)


def poll_records(
    consumer: Consumer,
    limit: int,
    wait_s: float,
    *,
    if_lost: str = "the position is not in the log",
    if_fenced: str = "another consumer has the same group.instance.id",
) -> list[Message]:
    """Up to `limit` records: waits for the first one only, because `consume` would wait until all are there.

    Raises Discrepancy, which ends with `if_lost`, if a position is not in the log; Fenced if the consumer is of no
    use any more: SlotTaken, with `if_fenced`, if another static member is said to have taken its place.
    """
    first = consumer.poll(wait_s)
    if first is None:
        return []
    polled = [first, *consumer.consume(limit - 1, 0)] if limit > 1 else [first]
    return [
        message
        for message in polled
        if message.error() is None or _is_record(message, if_lost, if_fenced)
    ]


def _is_record(message: Message, if_lost: str, if_fenced: str) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        at = f"{message.topic()}/{message.partition()}"
        raise Discrepancy(f"{at}: {if_lost} ({error.str()})")
    # the error of a message with the code _FATAL lacks the mark of a fatal error
    if error.fatal() or error.code() == KafkaError._FATAL:
        if FENCED in error.str():
            raise SlotTaken(if_fenced)
        if NOT_RELEASED in error.str():  # group protocol `consumer`: the first one stays
            raise SlotTaken(
                f"{if_fenced}. If it was killed, start again: its session ends by itself"
            )
        raise Fenced(f"a consumer has a fatal error: {error.str()}")
    if error.code() != KafkaError._PARTITION_EOF and not error.retriable():
        log.info("consumer error", extra={"code": error.name(), "topic": message.topic()})
    return False  # the client retries by itself


def read_positions(consumer: Consumer, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """The position of each partition that has one; control records, which are not returned, move it, too."""
    reported = consumer.position([TopicPartition(*partition) for partition in partitions])
    return {Partition(tp.topic, tp.partition): tp.offset for tp in reported if tp.offset >= 0}
