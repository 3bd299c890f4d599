"""What a coordinator has decided about a transaction whose marker is missing, from its log `__transaction_state`."""

from confluent_kafka import KafkaException

from processors.kafka.bounded_wait import REQUEST_TIMEOUT_S
from processors.kafka.clients import admin_client
from processors.kafka.transactions import (
    ABORTING,
    COMMITTING,
    STATE_TOPIC,
    OpenTransaction,
    internal_partition,
    logged_decision,
)
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import Unreachable


def decided_commit(settings: Settings, transaction: OpenTransaction) -> bool | None:
    """Whether the coordinator has decided to commit it, or to abort it; None if it has not, or if that is unknown.

    A transaction that was committed everywhere but here must be committed here, too: to abort it would lose outcomes,
    or double them. Raises Unreachable, Discrepancy.
    """
    if transaction.ongoing_since_ms is not None:
        return {COMMITTING: True, ABORTING: False}.get(transaction.state)
    began_ms = _append_time_of_first_record(settings, transaction)
    if began_ms is None:
        return None
    with LogReader(settings, _logs(settings, transaction), uncommitted=True) as log:
        ends = {partition: end for partition, (_, end) in log.offset_ranges().items()}
        log.seek(log.offsets_since(began_ms))
        for record in log.records_until(ends):
            decision = logged_decision(record.value or b"")
            if (
                decision is not None
                and decision.producer_id == transaction.producer_id
                # Kafka 4's transactions raise the epoch with each decision
                and 0 <= decision.producer_epoch - transaction.producer_epoch <= 1
                and transaction.partition in decision.partitions
                and record.appended_at_ms >= transaction.last_record_ms
            ):
                return decision.is_commit
    return None


def _append_time_of_first_record(settings: Settings, transaction: OpenTransaction) -> int | None:
    partition, start = transaction.partition, transaction.start_offset
    with LogReader(settings, [partition], uncommitted=True) as log:
        low, end = log.offset_ranges()[partition]
        if not low <= start < end:
            return None
        log.seek({partition: start})
        for record in log.records_until({partition: start + 1}):
            return record.appended_at_ms
    return None


def _logs(settings: Settings, transaction: OpenTransaction) -> list[Partition]:
    """The partitions of the log that may contain the transaction."""
    try:
        topics = admin_client(settings).list_topics(timeout=REQUEST_TIMEOUT_S).topics
    except KafkaException as fault:
        raise Unreachable(f"no metadata: {fault.args[0].name()}") from fault
    count = len(topics[STATE_TOPIC].partitions) if STATE_TOPIC in topics else 0
    if transaction.transactional_id and count:
        return [Partition(STATE_TOPIC, internal_partition(transaction.transactional_id, count))]
    return [Partition(STATE_TOPIC, number) for number in range(count)]
