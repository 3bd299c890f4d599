"""Coordinates of a record, partitions and positions, as plain values without a Kafka client."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas.errors import Malformed

COORDINATES = re.compile(r"(?P<topic>[^/@]+)/(?P<partition>\d{1,10})@(?P<offset>\d{1,19})")


@dataclass(frozen=True, slots=True, order=True)
class Coordinates:
    """Topic, partition and offset of one record."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


def coordinates_from(text: str) -> Coordinates:
    """Parse `topic/partition@offset`. Raises Malformed."""
    found = COORDINATES.fullmatch(text)
    if found is None or not text.isascii():
        raise Malformed("coordinates look like topic/partition@offset")
    return Coordinates(found["topic"], int(found["partition"]), int(found["offset"]))


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


Positions = Mapping[Partition, int]  # the next offset to read, of each partition
