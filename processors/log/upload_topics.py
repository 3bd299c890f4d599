"""The upload topics read for the audit: whole records, up to ends, and an index brought up to date with them."""

from collections.abc import Iterable

from confluent_kafka import Message

from processors.kafka.clients import admin_client
from processors.kafka.records import coordinates_of
from processors.kafka.topic_admin import topic_states
from processors.log.reader import LogReader
from processors.settings import Settings
from schemas.coordinates import Partition, Positions
from schemas.errors import Discrepancy
from tables.history.upload_index import UploadIndex
from tables.upload_record import UploadRecord


def upload_topic_ids(settings: Settings) -> dict[str, str]:
    """The ids of the upload topics by name, whatever their settings are.

    Raises Discrepancy where one is missing or cut otherwise: no state can be told of it then; Unreachable.
    """
    names = [topic.name for topic in settings.topics.uploads]
    states = {
        state.topic.name: state
        for state in topic_states(admin_client(settings), settings)
        if state.topic.name in names
    }
    for name, state in states.items():
        if state.topic_id is None:
            raise Discrepancy(f"{name} is not there: nothing of its history is left")
        if state.partitions != settings.partitions:
            raise Discrepancy(
                f"{name} has {state.partitions} partitions, the installation {settings.partitions}"
            )
    return {name: str(states[name].topic_id) for name in names}


def records_of_key(
    log: LogReader, key: bytes, starts: Positions, ends: Positions
) -> list[UploadRecord]:
    """Every record of a key in [starts, ends), one partition after the other in log order. Raises Unreachable."""
    log.seek({one: starts[one] for one in ends})
    return [
        upload_record_of(message)
        for messages in log.messages_until(ends)
        for message in messages
        if message.key() == key
    ]


def update_index(
    index: UploadIndex, settings: Settings, partitions: Iterable[Partition], ends: Positions
) -> int:
    """Read on from the index's positions, or the log's start, up to these ends; gives how many records came.

    Raises Unreachable; Discrepancy where the log no longer has the index's position.
    """
    known, wanted, count = index.positions(), list(partitions), 0
    with LogReader(settings, wanted) as log:
        log.seek({one: known.get(one, low) for one, (low, _) in log.offset_ranges().items()})
        for messages in log.messages_until(ends):
            stands = {one: min(at, ends[one]) for one, at in log.positions().items()}
            index.add(map(upload_record_of, messages), stands)
            count += len(messages)
    index.add((), {one: max(ends[one], known.get(one, 0)) for one in wanted})
    return count


def upload_record_of(message: Message) -> UploadRecord:
    """A message of an upload topic as the fold reads it."""
    at = coordinates_of(message)
    return UploadRecord(at, message.key(), message.value(), message.timestamp()[1])
