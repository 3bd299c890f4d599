"""Upload positions as an outcome's header tells them: how far the context that it rests on had been folded."""

import re
import zlib

from schemas.coordinates import Partition, Positions
from schemas.errors import Malformed
from schemas.topics import Topics

POSITIONS_HEADER = "cjstream-upload-positions"
MOST = 2**63 - 1  # an offset is an int64
OFFSETS = re.compile(r"(\d{1,19}( \d{1,19})*)?", re.ASCII)
CHECKED = re.compile(r"(?P<told>.*)\|crc32:(?P<sum>[0-9a-f]{8})", re.ASCII)


def encode_positions(positions: Positions, topics: Topics, partitions: int) -> bytes:
    """The upload positions of a join: per upload topic, in the catalogue's order, the next offset of each partition.

    For example `12 3 4 5|7 8 9 1|0 0 0 0|crc32:74558c98`; 0 where a partition has nothing yet and so no position. The
    sum is there because nothing else would show that a digit was altered: positions a little off may fit the same
    outcome.
    """
    told = "|".join(
        " ".join(str(positions.get(Partition(topic.name, one), 0)) for one in range(partitions))
        for topic in topics.uploads
    )
    return f"{told}|crc32:{_sum_of(told)}".encode()


def read_positions(told: bytes, topics: Topics) -> Positions:
    """What `told_positions` told, with its sum or, from earlier releases, without. Raises Malformed."""
    text = told.decode(errors="replace")
    if checked := CHECKED.fullmatch(text):
        text = checked["told"]
        if _sum_of(text) != checked["sum"]:
            raise Malformed("upload positions whose sum is another: they were altered")
    by_topic = text.split("|")
    fits = len(by_topic) == len(topics.uploads) and all(map(OFFSETS.fullmatch, by_topic))
    if not fits:
        raise Malformed("upload positions look like `12 3 4 5|7 8 9 1|0 0 0 0`")
    positions = {
        Partition(topic.name, number): int(offset)
        for topic, offsets in zip(topics.uploads, by_topic, strict=True)
        for number, offset in enumerate(offsets.split())
    }
    if max(positions.values(), default=0) > MOST:
        raise Malformed("upload positions beyond any offset")
    return positions


def _sum_of(told: str) -> str:
    return f"{zlib.crc32(told.encode()):08x}"
