"""Rows by keys of any bytes, read by ranges of them, which the audit's index wants: on disk, or in memory for a few."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rocksdict import WriteBatch

from schemas.errors import StoreFailed
from tables.store import opened, without_wal

Row = tuple[bytes, bytes]


class SortedRows(Protocol):
    """Rows by keys of any bytes, in their order."""

    def write(self, rows: Mapping[bytes, bytes]) -> None:
        """Put rows, all or nothing."""

    def ascending(self, first: bytes, end: bytes) -> Iterator[Row]:
        """The rows with keys in [first, end), by key."""

    def beside(self, key: bytes) -> tuple[Row | None, Row | None]:
        """The last row below a key, and the first that is not."""

    def close(self) -> None:
        """Let go of the folder."""


class MemorySortedRows:
    """Sorted rows that live as long as their process; for a few."""

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

    def beside(self, key: bytes) -> tuple[Row | None, Row | None]:
        place = bisect_left(self._keys, key)
        return self._row(place - 1), self._row(place)

    def _row(self, place: int) -> Row | None:
        if not 0 <= place < len(self._keys):
            return None
        return self._keys[place], self._rows[self._keys[place]]

    def close(self) -> None:
        pass


class RocksSortedRows:
    """Sorted rows in a folder of their own, which may be thrown away: nothing survives a kill."""

    def __init__(self, folder: Path, *, cache_mb: int, read_only: bool = False) -> None:
        """read_only: of what was closed, beside others that read it."""
        self._folder = folder
        self._without_wal = without_wal()
        with self._disk():
            self._db = opened(folder, cache_mb, read_only=read_only)
        # where nothing is written, one iterator sees all there is, and need not be made each time
        self._at = self._db.iter() if read_only else None

    def write(self, rows: Mapping[bytes, bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in rows.items():
            batch.put(key, value)
        with self._disk():
            self._db.write(batch, self._without_wal)

    def ascending(self, first: bytes, end: bytes) -> Iterator[Row]:
        at = self._db.iter()
        at.seek(first)
        while at.valid() and (key := at.key()) < end:
            yield key, at.value()
            at.next()

    def settle(self) -> None:
        """Sort all rows into one run: looking one up takes a quarter of the time then."""
        with self._disk():
            self._db.compact_range(None, None)

    def beside(self, key: bytes) -> tuple[Row | None, Row | None]:
        at = self._db.iter() if self._at is None else self._at
        at.seek(key)
        if at.valid():
            behind = (at.key(), at.value())
            at.prev()
        else:
            behind = None
            at.seek_to_last()
        return (at.key(), at.value()) if at.valid() else None, behind

    def close(self) -> None:
        self._at = None
        self._db.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise StoreFailed(f"the audit's index in {self._folder}", fault) from fault
