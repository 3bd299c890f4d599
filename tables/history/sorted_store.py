"""Rows sorted by keys of any bytes and read by key range, for the audit's index: on disk, or in memory for few rows."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rocksdict import WriteBatch

from schemas.errors import StoreFailed
from tables.store import open_db, without_wal

Row = tuple[bytes, bytes]


class SortedStore(Protocol):
    """Rows by keys of any bytes, sorted by key."""

    def write(self, rows: Mapping[bytes, bytes]) -> None:
        """Store rows, all or nothing."""

    def ascending(self, first: bytes, end: bytes) -> Iterator[Row]:
        """The rows with keys in [first, end), in the order of keys."""

    def close(self) -> None:
        """Close the store."""


class MemorySortedStore:
    """Sorted rows in memory, for few rows."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._rows: dict[bytes, bytes] = {}

    def write(self, rows: Mapping[bytes, bytes]) -> None:
        for key in rows.keys() - self._rows.keys():
            insort(self._keys, key)
        self._rows.update(rows)

    def ascending(self, first: bytes, end: bytes) -> Iterator[Row]:
        between = self._keys[bisect_left(self._keys, first) : bisect_left(self._keys, end)]
        return ((key, self._rows[key]) for key in between)

    def close(self) -> None:
        pass


class RocksSortedStore:
    """Sorted rows in a temporary folder of their own; a kill loses them."""

    def __init__(self, folder: Path, *, cache_mb: int) -> None:
        self._folder = folder
        self._without_wal = without_wal()
        with self._translated_errors():
            self._db = open_db(folder, cache_mb)

    def write(self, rows: Mapping[bytes, bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in rows.items():
            batch.put(key, value)
        with self._translated_errors():
            self._db.write(batch, self._without_wal)

    def ascending(self, first: bytes, end: bytes) -> Iterator[Row]:
        rows = self._db.iter()
        rows.seek(first)
        while rows.valid() and (key := rows.key()) < end:
            yield key, rows.value()
            rows.next()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise StoreFailed(f"the audit's index in {self._folder}", fault) from fault
