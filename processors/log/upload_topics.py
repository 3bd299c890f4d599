"""Reads the upload topics for the audit: the records of a key, and all new records into an index."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from confluent_kafka import Message

from processors.kafka.clients import admin_client
from processors.kafka.records import (
    LogRecord,
    append_time_of,
    append_times_of,
    coordinates_of,
    headers_of,
)
from processors.kafka.topic_admin import topic_states
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy
from tables.history.upload_index import UploadIndex
from tables.upload_batch import UploadBatch
from tables.upload_record import UploadRecord, sets_aside


def upload_topic_ids(settings: Settings) -> dict[str, str]:
    """The topic ids of the topics of every role by name; their settings are not checked.

    Raises Unreachable, or Discrepancy if a topic is missing or has another number of partitions: then no state can be
    computed from it.
    """
    names = [topic.name for topic in settings.topics.administered]
    states = {
        state.topic.name: state
        for state in topic_states(admin_client(settings), settings)
        if state.topic.name in names
    }
    for name, state in states.items():
        if state.topic_id is None:
            raise Discrepancy(f"{name} is missing: its history is lost")
        if state.partitions != settings.partitions:
            raise Discrepancy(
                f"{name} has {state.partitions} partitions, the installation {settings.partitions}"
            )
    return {name: str(states[name].topic_id) for name in names}


def records_of_key(
    log: LogReader, key: bytes, starts: Positions, ends: Positions
) -> list[UploadRecord]:
    """Every record of a key in [starts, ends), partition by partition in log order. Raises Unreachable."""
    log.seek({partition: starts[partition] for partition in ends})
    return [
        upload_record_of(message)
        for messages in log.messages_until(ends)
        for message in messages
        if message.key() == key
    ]


def update_index(
    index: UploadIndex, settings: Settings, partitions: Iterable[Partition], ends: Positions
) -> int:
    """Read from the index's positions, or from the log start, to the ends; returns the number of new records.

    Raises Unreachable, or Discrepancy if the log no longer has the index's position.
    """
    known, requested, count = index.positions(), list(partitions), 0
    with LogReader(settings, requested) as log:
        retained = log.offset_ranges()
        log.seek({partition: known.get(partition, low) for partition, (low, _) in retained.items()})
        for messages in log.messages_until(ends):
            positions = {
                partition: min(offset, ends[partition])
                for partition, offset in log.positions().items()
            }
            index.add(map(upload_record_of, messages), positions)
            count += len(messages)
    index.add(
        (), {partition: max(ends[partition], known.get(partition, 0)) for partition in requested}
    )
    return count


def upload_of(record: LogRecord) -> UploadRecord:
    """The upload record of a record of the log."""
    return UploadRecord(
        record.at, record.key, record.value, record.appended_at_ms, sets_aside(record.headers)
    )


def upload_record_of(message: Message) -> UploadRecord:
    """The upload record of a message, as the fold takes it."""
    at, headers = coordinates_of(message), headers_of(message)
    return UploadRecord(
        at,
        message.key(),
        message.value(),
        append_time_of(message),
        sets_aside(headers) if headers else None,
    )


def upload_batch_of(messages: Sequence[Message]) -> UploadBatch:
    """The upload records of messages, as the replica's fold takes them."""
    set_aside = {
        number: offset
        for number, message in enumerate(messages)
        if (headers := headers_of(message)) and (offset := sets_aside(headers)) is not None
    }
    return replace(upload_batch_without_headers(messages), sets_aside=set_aside)


def upload_batch_without_headers(messages: Sequence[Message]) -> UploadBatch:
    """The same for a fold that knows already which records are set aside."""
    return UploadBatch(
        [str(message.topic()) for message in messages],
        [message.partition() or 0 for message in messages],
        [message.offset() or 0 for message in messages],
        [message.key() for message in messages],
        [message.value() for message in messages],
        append_times_of(messages),
    )
