"""An index of the results and unresolved batches of an installation: by batch id, by assignment, newest first.

It holds a short document of each, and the positions up to which it is filled; both are written together.

Key of a row: its kind (1 byte), length of an id (4), the id, and in descending order of time: append time (8),
partition (4) and offset (8), all inverted. Rows of one id so stand together, the newest first.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from schemas.coordinates import Coordinates, Partition, Positions
from tables.store import Store

ALL, ASSIGNMENT, BATCH, UNRESOLVED, COUNT, POSITION = (bytes([kind]) for kind in b"labucp")
SIZE = struct.Struct(">I")
NEWEST_FIRST = struct.Struct(">QIQ")
INT64 = struct.Struct(">q")
UINT64_MAX, UINT32_MAX = 2**64 - 1, 2**32 - 1


@dataclass(frozen=True, slots=True)
class IndexedRecord:
    """A result, or an unresolved batch, with the document that lists show of it."""

    at: Coordinates
    appended_at_ms: int
    batch_id: str
    assignment_id: str | None
    is_result: bool
    document: bytes


class ResultIndex:
    """One thread at a time may add; any may read. topics: the names of the indexed topics."""

    def __init__(self, rows: Store, topics: tuple[str, ...]) -> None:
        self._rows = rows
        self._topics = topics

    def add(self, records: Iterable[IndexedRecord], positions: Positions) -> None:
        """Store records, none of which is in the index yet, and the new positions, all or nothing."""
        rows, counts = dict[bytes, bytes](), Counter[bytes]()
        for record in records:
            order = _order_of(record)
            batch_kind = BATCH if record.is_result else UNRESOLVED
            rows[_prefix(batch_kind, record.batch_id) + order] = record.document
            if record.is_result:
                rows[_prefix(ALL, "") + order] = record.document
                counts[_prefix(COUNT, "")] += 1
            if record.is_result and record.assignment_id:
                rows[_prefix(ASSIGNMENT, record.assignment_id) + order] = record.document
                counts[_prefix(COUNT, record.assignment_id)] += 1
        known = dict(zip(counts, self._rows.read(list(counts)), strict=True)) if counts else {}
        for key, more in counts.items():
            rows[key] = INT64.pack(_number(known[key]) + more)
        rows |= {self._position_key(tp): INT64.pack(end) for tp, end in positions.items()}
        self._rows.write(rows)

    def positions(self) -> Positions:
        """The position of every partition passed to `add` so far."""
        return {
            Partition(self._topics[key[1]], SIZE.unpack_from(key, 2)[0]): _number(value)
            for key, value in self._rows.ascending(POSITION, _after(POSITION))
        }

    def page(self, assignment_id: str | None, start: int, size: int) -> tuple[list[bytes], int]:
        """The documents of results from number `start` on, the newest first, and how many there are in all."""
        prefix = _prefix(ASSIGNMENT, assignment_id) if assignment_id else _prefix(ALL, "")
        (count,) = self._rows.read([_prefix(COUNT, assignment_id or "")])
        return list(islice(self._documents(prefix), start, start + size)), _number(count)

    def results_of(self, batch_id: str) -> Iterator[bytes]:
        """The documents of the results of a batch id, the newest first."""
        return self._documents(_prefix(BATCH, batch_id))

    def unresolved(self, batch_id: str) -> bytes | None:
        """The document of the newest unresolved batch with this id."""
        return next(self._documents(_prefix(UNRESOLVED, batch_id)), None)

    def close(self) -> None:
        """Close the store."""
        self._rows.close()

    def _documents(self, prefix: bytes) -> Iterator[bytes]:
        return (document for _, document in self._rows.ascending(prefix, _after(prefix)))

    def _position_key(self, partition: Partition) -> bytes:
        topic = bytes([self._topics.index(partition.topic)])
        return POSITION + topic + SIZE.pack(partition.partition)


def _prefix(kind: bytes, name: str) -> bytes:
    encoded = name.encode()
    return kind + SIZE.pack(len(encoded)) + encoded


def _after(prefix: bytes) -> bytes:
    """The exclusive end of the keys with a prefix."""
    return prefix + b"\xff" * (NEWEST_FIRST.size + 1)


def _order_of(record: IndexedRecord) -> bytes:
    at = record.at
    return NEWEST_FIRST.pack(
        UINT64_MAX - max(record.appended_at_ms, 0),
        UINT32_MAX - at.partition,
        UINT64_MAX - at.offset,
    )


def _number(value: bytes | None) -> int:
    number: int = 0 if value is None else INT64.unpack(value)[0]
    return number
