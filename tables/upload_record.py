"""Records of the upload topics, decoded and checked before the fold applies them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition
from schemas.errors import Malformed, UnknownSchema
from schemas.events import ROLE_OF, UploadEvent, scope_key_of
from schemas.partitioner import partition_for
from schemas.topics import Topic

SET_ASIDE = "cjstream-set-aside"  # a header: the offset of a record that the fold must skip


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """One record of an upload topic, not yet decoded."""

    at: Coordinates
    key: bytes | None
    value: bytes | None
    appended_at_ms: int
    sets_aside: int | None = None  # the offset in its header SET_ASIDE, if it has one


def _never(_at: Coordinates) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class UploadTopics:
    """The upload topics by name, the number of partitions of each, and which of their records are set aside."""

    by_name: dict[str, Topic]
    partitions: int
    is_set_aside: Callable[[Coordinates], bool] = _never

    @property
    def roles(self) -> dict[str, str]:
        """The role that each topic carries, by the topic's name."""
        return {name: ROLE_OF[topic.carries[0]] for name, topic in self.by_name.items()}

    @property
    def every_partition(self) -> list[Partition]:
        """Every partition of these topics."""
        return [
            Partition(name, number) for name in self.by_name for number in range(self.partitions)
        ]


def sets_aside(headers: Iterable[tuple[str, bytes | None]]) -> int | None:
    """The offset of the record that a record with these headers sets aside; None if it sets none aside."""
    for name, value in headers:
        if name == SET_ASIDE and value is not None and value.isdigit() and len(value) < 20:
            return int(value)
    return None


def read_upload(record: UploadRecord, codec: Codec, topics: UploadTopics) -> UploadEvent:
    """The upload event of a record.

    Raises Malformed if no release can read the record: dead-letter it and go on. Raises UnknownSchema if a later
    release may have written it: stop its partition, because going on would skip the upload, until it is set aside.
    """
    try:
        event = codec.decode(record.value)
    except UnknownSchema as fault:
        if not fault.may_be_later:
            raise Malformed(str(fault)) from fault
        if topics.is_set_aside(record.at):
            raise Malformed(f"{fault}; it was set aside") from fault
        raise UnknownSchema(
            f"{record.at}: {fault}; deploy a release that knows it, or set it aside with "
            f"`cjstream uploads set-aside {record.at}`",
            may_be_later=True,
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
