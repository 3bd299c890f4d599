"""`cjstream uploads set-aside`: lets the fold go on behind an upload that this release does not know."""

from contextlib import closing
from dataclasses import dataclass

from processors.kafka.clients import admin_client
from processors.kafka.records import Record
from processors.kafka.topic_admin import checked_topics
from processors.kafka.transactional_producer import TransactionalProducer, producer_with_id
from processors.log.record_lookup import records_at
from processors.log.set_aside import administered_topics_with_set_aside
from processors.log.upload_topics import upload_of
from processors.registry.registry_codec import codec_for
from processors.settings import Settings, administered_topics
from processors.upload_log.reappend import (
    TAKEOVER_S,
    NewRecord,
    append_unless_newer,
    last_good_value,
    set_aside_headers,
)
from schemas.coordinates import Coordinates, Partition, coordinates_from
from schemas.errors import Discrepancy, Malformed, Misconfigured, UnknownSchema
from tables.upload_record import read_upload


@dataclass(frozen=True, slots=True)
class SetAside:
    """An upload that is set aside; by: the record that does it, None in a dry run.

    has_upload: whether its key has a good upload, which that record repeats.
    """

    at: Coordinates
    key: str
    reason: str
    has_upload: bool
    by: Coordinates | None


def set_aside(settings: Settings, coordinates: str, *, yes: bool) -> SetAside:
    """Set aside the upload at these coordinates; without `yes`, only say what would be done.

    Raises Misconfigured for coordinates outside the upload topics, Discrepancy if the record is not in the log or stops
    nothing, Unreachable, Aborted, Fenced.
    """
    at = _upload_coordinates(settings, coordinates)
    checked_topics(admin_client(settings), settings)
    record = next(iter(records_at(settings, [at])), None)
    if record is None:
        raise Discrepancy(f"{at} is not in the log")
    key, codec = record.key or b"", codec_for(settings)
    topics = administered_topics_with_set_aside(settings)
    upload = upload_of(record)
    try:
        read_upload(upload, codec, administered_topics(settings))
    except UnknownSchema as fault:
        reason = str(fault.__cause__)
    except Malformed as fault:
        raise Discrepancy(f"{at} stops nothing: it is a dead letter ({fault})") from fault
    else:
        raise Discrepancy(f"{at} stops nothing: it is a valid upload")
    if topics.is_set_aside(at):
        raise Discrepancy(f"{at} is set aside already")

    def record_at_end(_end: int) -> Record:
        value = last_good_value(settings, at, key, codec, topics)
        return Record(at.topic, at.partition, key, value, set_aside_headers(at.offset))

    has_upload, by = record_at_end(0).value is not None, None
    if yes:
        new_record = NewRecord(Partition(at.topic, at.partition), record_at_end)
        with closing(_producer(settings, at)) as producer:
            producer.take_over(TAKEOVER_S)
            by = append_unless_newer(settings, producer, new_record)
    return SetAside(at, key.decode(errors="replace"), reason, has_upload, by)


def _upload_coordinates(settings: Settings, text: str) -> Coordinates:
    try:
        at = coordinates_from(text)
    except Malformed as fault:
        raise Misconfigured(f"{text[:200]!r}: {fault}") from fault
    if Partition(at.topic, at.partition) not in settings.administered_partitions:
        raise Misconfigured(f"{at}: not in a partition of an upload topic of this installation")
    return at


def _producer(settings: Settings, at: Coordinates) -> TransactionalProducer:
    name = f"{settings.topic_prefix}cjstream-set-aside-{at.topic}-{at.partition}"
    return producer_with_id(settings, name)
