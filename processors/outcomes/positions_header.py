"""The header of an outcome with the upload positions up to which its context had been folded."""

import re
import zlib

from schemas.coordinates import Partition, Positions
from schemas.errors import Malformed
from schemas.topics import Topics

POSITIONS_HEADER = "cjstream-upload-positions"
MAX_OFFSET = 2**63 - 1  # an offset is an int64
OFFSETS = re.compile(r"(\d{1,19}( \d{1,19})*)?", re.ASCII)
WITH_CHECKSUM = re.compile(r"(?P<positions>.*)\|crc32:(?P<checksum>[0-9a-f]{8})", re.ASCII)


def encode_positions(positions: Positions, topics: Topics, partitions: int) -> bytes:
    """The header value: per upload topic, in the catalogue's order, the next offset of each partition.

    For example `12 3 4 5|7 8 9 1|0 0 0 0|crc32:74558c98`; a partition without a position has 0. The checksum reveals
    an altered digit. Nothing else would: slightly different positions may give the same outcome.
    """
    text = "|".join(
        " ".join(
            str(positions.get(Partition(topic.name, number), 0)) for number in range(partitions)
        )
        for topic in topics.uploads
    )
    return f"{text}|crc32:{_checksum_of(text)}".encode()


def read_positions(header: bytes, topics: Topics) -> Positions:
    """The positions of a header value, which from earlier releases has no checksum. Raises Malformed."""
    text = header.decode(errors="replace")
    if match := WITH_CHECKSUM.fullmatch(text):
        text = match["positions"]
        if _checksum_of(text) != match["checksum"]:
            raise Malformed("the checksum of the upload positions is wrong: they were altered")
    by_topic = text.split("|")
    is_well_formed = len(by_topic) == len(topics.uploads) and all(map(OFFSETS.fullmatch, by_topic))
    if not is_well_formed:
        raise Malformed("upload positions must look like `12 3 4 5|7 8 9 1|0 0 0 0`")
    positions = {
        Partition(topic.name, number): int(offset)
        for topic, offsets in zip(topics.uploads, by_topic, strict=True)
        for number, offset in enumerate(offsets.split())
    }
    if max(positions.values(), default=0) > MAX_OFFSET:
        raise Malformed("an upload position is larger than any offset")
    return positions


def _checksum_of(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
