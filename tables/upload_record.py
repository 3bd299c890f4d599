"""A record of an upload topic, read and checked: what the fold may take, and what it may not."""

from dataclasses import dataclass

from schemas.codec import Codec
from schemas.coordinates import Coordinates
from schemas.errors import Malformed, UnknownSchema
from schemas.events import UploadEvent, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """One record of an upload topic as it stands in the log."""

    at: Coordinates
    key: bytes | None
    value: bytes | None
    appended_at_ms: int


@dataclass(frozen=True, slots=True)
class UploadTopics:
    """The upload topics by name, and into how many partitions they are cut."""

    by_name: dict[str, Topic]
    partitions: int


def read_upload(record: UploadRecord, codec: Codec, topics: UploadTopics) -> UploadEvent:
    """The upload event of a record.

    Raises Malformed for what no release can read: dead-letter it and go on. Raises UnknownSchema
    for what a later release wrote: stop, for going on would skip it.
    """
    try:
        event = codec.decode(record.value)
    except UnknownSchema as fault:
        raise UnknownSchema(f"{record.at}: {fault}; deploy one that knows it first") from fault
    belongs_here = type(event) in topics.by_name[record.at.topic].carries
    if not (isinstance(event, UploadEvent) and belongs_here):
        raise Malformed(f"a {type(event).__name__} does not belong in {record.at.topic}")
    scope_key = scope_key_of(event).encode()
    if record.key != scope_key:
        raise Malformed(f"the key is not the scope key of its {type(event).__name__}")
    belongs = partition_for(scope_key, topics.partitions)
    if record.at.partition != belongs:
        raise Malformed(f"in partition {record.at.partition}, murmur2 of its key says {belongs}")
    return event
