"""What a seal keeps of a partition: blocks of up to 1,024 records, the root of each and a little of every record.

The root alone proves that nothing differs. Which record it is that does is told by 12 bytes of every leaf, enough
to prove the records that compaction leaves of a block, too; whether one may be gone by the topic's own settings, by its
append time and, where a topic is compacted, 8 bytes of its key's hash. 17 to 28 bytes a record, as the file has it.
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
KEY_BYTES = 8  # whoever could make another key of this hash could as well use the key
NUMBER_BYTES = 8


class SealedRecord(NamedTuple):
    """What a seal knows of one record; key is empty where it keeps none."""

    offset: int
    leaf: bytes
    appended_at_ms: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Up to 1,024 records in a row: all that stood in [start, end)."""

    start: int
    end: int
    root: bytes
    records: tuple[SealedRecord, ...]


def short(full: bytes) -> bytes:
    """What is kept of a hash."""
    return full[:LEAF_BYTES]


def short_key(key: bytes | None) -> bytes:
    """What is kept of a record's key."""
    return sha256(key or b"").digest()[:KEY_BYTES]


def blocks_of(
    records: Iterable[LogRecord], start: int, *, keys: bool, size: int = BLOCK
) -> Iterator[Block]:
    """The records of a partition from start on, in blocks."""
    coming = iter(records)
    while taken := list(islice(coming, size)):
        leaves = [leaf_of(record) for record in taken]
        end = taken[-1].at.offset + 1
        kept = tuple(
            SealedRecord(
                record.at.offset,
                short(leaf),
                record.appended_at_ms,
                short_key(record.key) if keys else b"",
            )
            for record, leaf in zip(taken, leaves, strict=True)
        )
        yield Block(start, end, root_of(leaves), kept)
        start = end


def document_of(block: Block) -> dict[str, Any]:
    """A block as JSON: hashes one after the other, numbers as differences, compressed; all in base64."""
    return {
        "from": block.start,
        "to": block.end,
        "root": block.root.hex(),
        "leaves": _text(b"".join(one.leaf for one in block.records)),
        "offsets": _packed(one.offset for one in block.records),
        "times": _packed(one.appended_at_ms for one in block.records),
        "keys": _text(b"".join(one.key for one in block.records)),
    }


def block_from(told: Mapping[str, Any]) -> Block:
    """The block that `document_of` told. Raises Malformed."""
    try:
        leaves, keys = _cut(told["leaves"], LEAF_BYTES), _cut(told["keys"], KEY_BYTES)
        offsets, times = _unpacked(told["offsets"]), _unpacked(told["times"])
        kept = zip(offsets, leaves, times, keys or [b""] * len(leaves), strict=True)
        records = tuple(SealedRecord(*one) for one in kept)
        return Block(int(told["from"]), int(told["to"]), bytes.fromhex(told["root"]), records)
    except Exception as fault:  # (whatever is wrong with it, it is no block)
        raise Malformed(f"not a block of a seal ({type(fault).__name__})") from fault


def _cut(told: str, size: int) -> list[bytes]:
    hashes = b64decode(told)
    if len(hashes) % size:
        raise ValueError("cut off")
    return [hashes[at : at + size] for at in range(0, len(hashes), size)]


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()


def _packed(numbers: Iterable[int]) -> str:
    differences, before = array("q"), 0
    for number in numbers:
        differences.append(number - before)
        before = number
    return _text(compress(_little(differences).tobytes(), 1))


def _unpacked(told: str) -> list[int]:
    raw = decompressobj().decompress(b64decode(told), BLOCK * NUMBER_BYTES)
    differences, numbers, before = array("q", raw), list[int](), 0
    for difference in _little(differences):
        before += difference
        numbers.append(before)
    return numbers


def _little(numbers: "array[int]") -> "array[int]":
    """The same numbers, laid out little-endian, or back."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers
