"""The upload topics as they were at the upload positions of a transaction batch."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from schemas.codec import Codec
from schemas.coordinates import Coordinates, Partition, Positions
from schemas.errors import Malformed
from schemas.events import UploadEvent
from schemas.partitioner import partition_for
from tables.upload_record import UploadRecord, UploadTopics, read_upload
from tools.audit.check.upload_timelines import TimelineRecord, UploadTimelines

T = TypeVar("T")
Neighbours = tuple[TimelineRecord | None, TimelineRecord | None]  # below, and at or beyond
PositionTable = tuple[tuple[int, ...], ...]  # by partition number and topic number


class UploadAt(NamedTuple):
    """An upload, read and checked, with its coordinates."""

    event: UploadEvent
    at: Coordinates
    appended_at_ms: int


def upload_of(
    scope_key: bytes, at: Coordinates, found: TimelineRecord, codec: Codec, topics: UploadTopics
) -> UploadAt | None:
    """The upload in this record; None if the record is damaged. Raises UnknownSchema."""
    record = UploadRecord(at, scope_key, found.value, found.appended_at_ms)
    try:
        return UploadAt(read_upload(record, codec, topics), at, found.appended_at_ms)
    except Malformed:
        return None


def position_table(positions: Positions, topics: UploadTopics) -> PositionTable:
    """For each partition number, the position in each upload topic. Raises Malformed if a partition is missing."""
    numbers = range(topics.partitions)
    if len(positions) != len(topics.by_name) * topics.partitions:
        raise Malformed(f"positions of {len(positions)} upload partitions")
    try:
        return tuple(
            tuple(positions[Partition(name, number)] for name in topics.by_name)
            for number in numbers
        )
    except KeyError as fault:
        raise Malformed("positions of other upload partitions") from fault


class UploadsAsOf:
    """The upload records of scopes, as of the positions set last."""

    def __init__(self, uploads: UploadTimelines, codec: Codec, topics: UploadTopics) -> None:
        self._uploads = uploads
        self._codec = codec
        self._topics = topics
        self._positions: PositionTable = ((0,) * len(topics.by_name),) * topics.partitions

    def set_positions(self, positions: Positions) -> None:
        """Use these positions from now on. Raises Malformed if a partition is missing."""
        self._positions = position_table(positions, self._topics)

    def at_positions(self, scope_key: bytes) -> list[tuple[str, Neighbours]]:
        """For each upload topic, the scope's newest record below the position and its first one at or beyond it."""
        positions = self._positions[self.partition_of(scope_key)]
        return [
            (topic, self._uploads.neighbours(topic, scope_key, position))
            for topic, position in zip(self._topics.by_name, positions, strict=True)
        ]

    def neighbours(self, scope_key: bytes, at: Coordinates) -> Neighbours:
        """The scope's newest record below these coordinates and its first one at or beyond; ignores the positions."""
        if at.topic not in self._topics.by_name:
            return None, None
        return self._uploads.neighbours(at.topic, scope_key, at.offset)

    def partition_of(self, scope_key: bytes) -> int:
        """The partition of a scope's uploads."""
        return partition_for(scope_key, self._topics.partitions)

    def newest_readable(
        self,
        topic: str,
        scope_key: bytes,
        record: TimelineRecord | None,
        read: Callable[[TimelineRecord], T | None],
    ) -> T | None:
        """What `read` returns for this record, or for the next older one for which it is not None."""
        while record is not None and (found := read(record)) is None:
            record, _ = self._uploads.neighbours(topic, scope_key, record.offset)
        return None if record is None else found

    def first_readable(
        self,
        topic: str,
        scope_key: bytes,
        record: TimelineRecord | None,
        read: Callable[[TimelineRecord], T | None],
    ) -> T | None:
        """What `read` returns for this record, or for the next later one for which it is not None."""
        while record is not None and (found := read(record)) is None:
            _, record = self._uploads.neighbours(topic, scope_key, record.offset + 1)
        return None if record is None else found

    def upload(self, topic: str, scope_key: bytes, record: TimelineRecord) -> UploadAt | None:
        """The upload in this record; None if the record is damaged. Raises UnknownSchema."""
        at = Coordinates(topic, self.partition_of(scope_key), record.offset)
        return upload_of(scope_key, at, record, self._codec, self._topics)
