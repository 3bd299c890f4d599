"""Records of the upload topics, decoded and checked before the fold applies them."""

from dataclasses import dataclass

from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import Malformed, UnknownSchema
from schemas.events import UploadEvent, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """One record of an upload topic, not yet decoded."""

    at: Coordinates
    key: bytes | None
    value: bytes | None
    appended_at_ms: int


@dataclass(frozen=True, slots=True)
class UploadTopics:
    """The upload topics by name, and the number of partitions of each."""

    by_name: dict[str, Topic]
    partitions: int


def read_upload(record: UploadRecord, codec: Codec, topics: UploadTopics) -> UploadEvent:
    """The upload event of a record.

    Raises Malformed if no release can read the record: dead-letter it and go on. Raises UnknownSchema if a later
    release may have written it: stop its partition, because going on would skip the upload.
    """
    try:
        event = codec.decode(record.value)
    except UnknownSchema as fault:
        if not fault.may_be_later:
            raise Malformed(str(fault)) from fault
        raise UnknownSchema(
            f"{record.at}: {fault}; deploy a release that knows it first", may_be_later=True
        ) from fault
    is_allowed = type(event) in topics.by_name[record.at.topic].carries
    if not (isinstance(event, UploadEvent) and is_allowed):
        raise Malformed(f"a {type(event).__name__} does not belong in {record.at.topic}")
    scope_key = scope_key_of(event).encode()
    if record.key != scope_key:
        raise Malformed(f"the record key is not the scope key of its {type(event).__name__}")
    expected = partition_for(scope_key, topics.partitions)
    if record.at.partition != expected:
        raise Malformed(
            f"in partition {record.at.partition}, but murmur2 of the key gives {expected}"
        )
    return event
