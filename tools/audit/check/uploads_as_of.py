"""The upload topics as they stood at the positions of a join. Pure but for what it is lent."""

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
Sides = tuple[TimelineRecord | None, TimelineRecord | None]
Below = tuple[tuple[int, ...], ...]


class UploadAt(NamedTuple):
    """An upload, read and checked, and its place."""

    event: UploadEvent
    at: Coordinates
    appended_at_ms: int


def upload_of(
    scope_key: bytes, at: Coordinates, stood: TimelineRecord, codec: Codec, topics: UploadTopics
) -> UploadAt | None:
    """The upload that stands there; None where the record is a damaged one. Raises UnknownSchema."""
    record = UploadRecord(at, scope_key, stood.value, stood.appended_at_ms)
    try:
        return UploadAt(read_upload(record, codec, topics), at, stood.appended_at_ms)
    except Malformed:
        return None


def below_of(positions: Positions, topics: UploadTopics) -> Below:
    """By partition, the position in each upload topic. Raises Malformed where one lacks."""
    numbers = range(topics.partitions)
    if len(positions) != len(topics.by_name) * topics.partitions:
        raise Malformed(f"positions of {len(positions)} upload partitions")
    try:
        return tuple(
            tuple(positions[Partition(name, one)] for name in topics.by_name) for one in numbers
        )
    except KeyError as fault:
        raise Malformed("positions of other upload partitions") from fault


class UploadsAsOf:
    """What stood where, as of the positions told last."""

    def __init__(self, uploads: UploadTimelines, codec: Codec, topics: UploadTopics) -> None:
        self._uploads = uploads
        self._codec = codec
        self._topics = topics
        self._below: Below = ((0,) * len(topics.by_name),) * topics.partitions

    def set_positions(self, positions: Positions) -> None:
        """Be at these positions from now on. Raises Malformed where a partition lacks."""
        self._below = below_of(positions, self._topics)

    def sides(self, scope_key: bytes) -> list[tuple[str, Sides]]:
        """Of each upload topic the newest record of a scope below the position, and the first one that is not."""
        below = self._below[self.belongs(scope_key)]
        return [
            (topic, self._uploads.beside(topic, scope_key, position))
            for topic, position in zip(self._topics.by_name, below, strict=True)
        ]

    def beside(self, scope_key: bytes, at: Coordinates) -> Sides:
        """The same on both sides of these coordinates, wherever the positions are."""
        if at.topic not in self._topics.by_name:
            return None, None
        return self._uploads.beside(at.topic, scope_key, at.offset)

    def belongs(self, scope_key: bytes) -> int:
        """The partition of a scope's uploads."""
        return partition_for(scope_key, self._topics.partitions)

    def newest(
        self,
        topic: str,
        scope_key: bytes,
        stood: TimelineRecord | None,
        read: Callable[[TimelineRecord], T | None],
    ) -> T | None:
        """What this record reads as, or the next older one that reads as anything."""
        while stood is not None and (found := read(stood)) is None:
            stood, _ = self._uploads.beside(topic, scope_key, stood.offset)
        return None if stood is None else found

    def first(
        self,
        topic: str,
        scope_key: bytes,
        stood: TimelineRecord | None,
        read: Callable[[TimelineRecord], T | None],
    ) -> T | None:
        """The same on to later ones."""
        while stood is not None and (found := read(stood)) is None:
            _, stood = self._uploads.beside(topic, scope_key, stood.offset + 1)
        return None if stood is None else found

    def upload(self, topic: str, scope_key: bytes, stood: TimelineRecord) -> UploadAt | None:
        """The upload that stands there; None where the record is a damaged one. Raises UnknownSchema."""
        at = Coordinates(topic, self.belongs(scope_key), stood.offset)
        return upload_of(scope_key, at, stood, self._codec, self._topics)
