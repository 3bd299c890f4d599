"""What a seal stores of a partition: blocks of up to 1,024 records, each with its root and a few bytes per record.

The root alone proves that nothing differs. 12 bytes of every leaf show which record differs, and also prove the
records of a block that compaction leaves. The append time and, for a compacted topic, 8 bytes of the key's hash show
whether a missing record may be gone by the topic's own settings. In the file a record takes 17 to 28 bytes.
"""

import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple
from zlib import compress, decompressobj

from processors.kafka.records import LogRecord
from schemas.errors import Malformed
from tools.audit.seal.merkle import leaf_of, root_of

BLOCK = 1024  # a power of two: the roots of blocks are nodes of the partition's tree
LEAF_BYTES = 12
KEY_BYTES = 8  # forging another key with this hash gains nothing: a forger could use the same key
NUMBER_BYTES = 8


class SealedRecord(NamedTuple):
    """What a seal stores of one record; `key` is empty if the seal stores no keys of its topic."""

    offset: int
    leaf: bytes
    appended_at_ms: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Up to 1,024 consecutive records: all records with an offset in [start, end)."""

    start: int
    end: int
    root: bytes
    records: tuple[SealedRecord, ...]


def short(full: bytes) -> bytes:
    """The part of a hash that a seal stores."""
    return full[:LEAF_BYTES]


def short_key(key: bytes | None) -> bytes:
    """The part of the hash of a record's key that a seal stores."""
    return sha256(key or b"").digest()[:KEY_BYTES]


def blocks_of(
    records: Iterable[LogRecord], start: int, *, keys: bool, size: int = BLOCK
) -> Iterator[Block]:
    """The records of a partition from offset `start`, in blocks."""
    remaining = iter(records)
    while group := list(islice(remaining, size)):
        leaves = [leaf_of(record) for record in group]
        end = group[-1].at.offset + 1
        sealed = tuple(
            SealedRecord(
                record.at.offset,
                short(leaf),
                record.appended_at_ms,
                short_key(record.key) if keys else b"",
            )
            for record, leaf in zip(group, leaves, strict=True)
        )
        yield Block(start, end, root_of(leaves), sealed)
        start = end


def document_of(block: Block) -> dict[str, Any]:
    """A block as JSON: hashes concatenated, numbers as compressed differences; both in base64."""
    return {
        "from": block.start,
        "to": block.end,
        "root": block.root.hex(),
        "leaves": _base64(b"".join(record.leaf for record in block.records)),
        "offsets": _packed(record.offset for record in block.records),
        "times": _packed(record.appended_at_ms for record in block.records),
        "keys": _base64(b"".join(record.key for record in block.records)),
    }


def block_from(document: Mapping[str, Any]) -> Block:
    """The block that `document_of` turned into JSON. Raises Malformed."""
    try:
        leaves, keys = _hashes(document["leaves"], LEAF_BYTES), _hashes(document["keys"], KEY_BYTES)
        offsets, times = _unpacked(document["offsets"]), _unpacked(document["times"])
        rows = zip(offsets, leaves, times, keys or [b""] * len(leaves), strict=True)
        records = tuple(SealedRecord(*row) for row in rows)
        root = bytes.fromhex(document["root"])
        return Block(int(document["from"]), int(document["to"]), root, records)
    except Exception as fault:  # (whatever the error is, this is not a block)
        raise Malformed(f"not a block of a seal ({type(fault).__name__})") from fault


def _hashes(encoded: str, size: int) -> list[bytes]:
    hashes = b64decode(encoded)
    if len(hashes) % size:
        raise ValueError("cut off")
    return [hashes[start : start + size] for start in range(0, len(hashes), size)]


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode()


def _packed(numbers: Iterable[int]) -> str:
    differences, previous = array("q"), 0
    for number in numbers:
        differences.append(number - previous)
        previous = number
    return _base64(compress(_little_endian(differences).tobytes(), 1))


def _unpacked(encoded: str) -> list[int]:
    raw = decompressobj().decompress(b64decode(encoded), BLOCK * NUMBER_BYTES)
    differences, numbers, number = array("q", raw), list[int](), 0
    for difference in _little_endian(differences):
        number += difference
        numbers.append(number)
    return numbers


def _little_endian(numbers: "array[int]") -> "array[int]":
    """The same numbers converted from native to little-endian byte order, or back."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers
