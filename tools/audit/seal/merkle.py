"""Merkle trees as in RFC 6962, and the leaf hash of a record.

Leaves and nodes are hashed with different prefixes, so that a leaf can never pass for a node.
"""

from collections.abc import Sequence
from hashlib import sha256
from struct import Struct

from processors.kafka.records import LogRecord

# prefix, offset, append time, lengths of key and value (-1: null), number of headers
HEAD = Struct(">cqqiii")
HEADER = Struct(">ii")
LEAF, NODE = b"\0", b"\1"


def leaf_of(record: LogRecord) -> bytes:
    """The hash of one record: its offset, append time, key, value and headers; each length precedes its bytes."""
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
    parts = [head, key or b"", value or b""]
    for name, content in headers:
        encoded = name.encode()
        lengths = HEADER.pack(len(encoded), -1 if content is None else len(content))
        parts += (lengths, encoded, content or b"")
    return sha256(b"".join(parts)).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over leaves, or over the roots of perfect subtrees of equal size; the last subtree may be smaller."""
    if not hashes:
        return sha256().digest()
    level = list(hashes)
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [sha256(NODE + left + right).digest() for left, right in pairs] + odd
    return level[0]
