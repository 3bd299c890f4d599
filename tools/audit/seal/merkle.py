"""Merkle trees as RFC 6962 has them, and a record as a leaf of one.

Leaves and nodes are hashed under prefixes of their own, so that none passes for the other.
"""

from collections.abc import Sequence
from hashlib import sha256
from struct import Struct

from processors.kafka.records import LogRecord

# offset, append time, and how long the rest is: key and value (-1: none), how many headers
HEAD = Struct(">cqqiii")
HEADER = Struct(">ii")
LEAF, NODE = b"\0", b"\1"


def leaf_of(record: LogRecord) -> bytes:
    """The hash of one record: its offset, append time, key, value and headers; every length stands before its bytes."""
    key, value, headers = record.key, record.value, record.headers
    head = HEAD.pack(
        LEAF,
        record.at.offset,
        record.appended_at_ms,
        -1 if key is None else len(key),
        -1 if value is None else len(value),
        len(headers),
    )
    if not headers:
        return sha256(b"%b%b%b" % (head, key or b"", value or b"")).digest()
    told = [head, key or b"", value or b""]
    for name, said in headers:
        encoded = name.encode()
        told += (HEADER.pack(len(encoded), -1 if said is None else len(said)), encoded, said or b"")
    return sha256(b"".join(told)).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over leaves; or over the roots of equal perfect trees of them, the last of which may be smaller."""
    if not hashes:
        return sha256().digest()
    level = list(hashes)
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [sha256(NODE + left + right).digest() for left, right in pairs] + odd
    return level[0]
