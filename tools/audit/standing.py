"""The upload topics as they stood at the positions of a join. Pure but for what it is lent."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from schemas.codec import Codec
from schemas.errors import Malformed
from schemas.events import Coordinates, UploadEvent
from schemas.partitioner import partition_for
from tables.replica import Partition, Positions
from tables.upload_index import Stood
from tables.uploads import UploadRecord, UploadTopics, read_upload

T = TypeVar("T")
Sides = tuple[Stood | None, Stood | None]


class Uploads(Protocol):
    """Upload records by key, each in the partition where the key belongs; the index is one."""

    def beside(self, topic: str, scope_key: bytes, offset: int) -> Sides:
        """The newest record of a key below an offset, and the first one that is not."""


class Upload(NamedTuple):
    """An upload, read and checked, and its place."""

    event: UploadEvent
    at: Coordinates
    appended_at_ms: int


class Standing:
    """What stood where, as of the positions told last."""

    def __init__(self, uploads: Uploads, codec: Codec, topics: UploadTopics) -> None:
        self._uploads = uploads
        self._codec = codec
        self._topics = topics
        self._below: list[tuple[int, ...]] = [(0, 0, 0)] * topics.partitions

    def stand_at(self, positions: Positions) -> None:
        """Be at these positions from now on. Raises Malformed where a partition lacks."""
        numbers = range(self._topics.partitions)
        wanted = {Partition(name, one) for name in self._topics.by_name for one in numbers}
        if positions.keys() != wanted:
            raise Malformed(f"positions of {len(positions)} upload partitions, not {len(wanted)}")
        self._below = [
            tuple(positions[Partition(name, one)] for name in self._topics.by_name)
            for one in numbers
        ]

    def partition(self, scope_key: bytes) -> int:
        """Where a scope's uploads belong."""
        return partition_for(scope_key, self._topics.partitions)

    def below(self, partition: int) -> tuple[int, ...]:
        """The position of each upload topic in a partition."""
        return self._below[partition]

    def sides(self, scope_key: bytes, partition: int) -> list[tuple[str, Sides]]:
        """Of each upload topic the newest record of a scope below the position, and the first one that is not."""
        beside = self._uploads.beside
        return [
            (topic, beside(topic, scope_key, position))
            for topic, position in zip(self._topics.by_name, self._below[partition], strict=True)
        ]

    def beside(self, scope_key: bytes, at: Coordinates) -> Sides:
        """The same on both sides of these coordinates, wherever the positions are."""
        if at.topic not in self._topics.by_name:
            return None, None
        return self._uploads.beside(at.topic, scope_key, at.offset)

    def newest(
        self, topic: str, scope_key: bytes, stood: Stood | None, read: Callable[[Stood], T | None]
    ) -> T | None:
        """What this record reads as, or the next older one that reads as anything."""
        while stood is not None and (found := read(stood)) is None:
            stood, _ = self._uploads.beside(topic, scope_key, stood.offset)
        return None if stood is None else found

    def first(
        self, topic: str, scope_key: bytes, stood: Stood | None, read: Callable[[Stood], T | None]
    ) -> T | None:
        """The same on to later ones."""
        while stood is not None and (found := read(stood)) is None:
            _, stood = self._uploads.beside(topic, scope_key, stood.offset + 1)
        return None if stood is None else found

    def upload(self, topic: str, scope_key: bytes, stood: Stood) -> Upload | None:
        """The upload that stands there; None where the record is a damaged one. Raises UnknownSchema."""
        at = Coordinates(topic, self.partition(scope_key), stood.offset)
        record = UploadRecord(at, scope_key, stood.value, stood.appended_at_ms)
        try:
            return Upload(read_upload(record, self._codec, self._topics), at, stood.appended_at_ms)
        except Malformed:
            return None
