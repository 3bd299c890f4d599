"""Rows sorted by keys of any bytes: on disk (rocksdict), or in memory for a dry run and for few rows.

The rows of one write become visible together or not at all.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import Protocol

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from schemas.errors import Misconfigured, StoreFailed


class Store(Protocol):
    """Rows by keys of any bytes, sorted by key."""

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The rows with these keys, in their order; None for a key without a row."""

    def ascending(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The keys in [first, end) and their rows, in the order of keys."""

    def write(self, rows: Mapping[bytes, bytes]) -> None:
        """Store rows, all or nothing."""

    def clear(self) -> None:
        """Delete every row."""

    def estimated_rows(self) -> int:
        """About how many rows there are; a row that was just overwritten may count twice."""

    def close(self) -> None:
        """Flush to disk and close the folder."""


class MemoryStore:
    """A store in memory; it ends with its process."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._rows.get(key) for key in keys]

    def ascending(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(row for row in self._rows.items() if first <= row[0] < end))

    def write(self, rows: Mapping[bytes, bytes]) -> None:
        self._rows.update(rows)

    def clear(self) -> None:
        self._rows.clear()

    def estimated_rows(self) -> int:
        return len(self._rows)

    def close(self) -> None:
        pass


class RocksStore:
    """A store in its own folder; only one process at a time can open it for writing.

    The write-ahead log is off: a kill loses the newest writes, but never a part of one. what: what it stores, for
    messages.
    """

    def __init__(self, folder: Path, *, what: str, cache_mb: int) -> None:
        self._name = f"{what} in {folder}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = _opened(folder, _options(cache_mb), AccessType.read_write())
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise Misconfigured(
                f"cannot open {self._name}: another process has it open, the disk is full or the folder is damaged "
                f"({str(fault)[:200]}); if it is damaged, delete it, then it is rebuilt"
            ) from fault
        self._without_wal: WriteOptions | None = WriteOptions()
        setattr(self._without_wal, "disable_wal", True)  # noqa: B010 (a property, typed as a method)

    @classmethod
    def open_read_only(cls, folder: Path, *, what: str, cache_mb: int) -> "RocksStore":
        """Open the last flushed state of a store for reading only; a process that writes it is not disturbed.

        Raises Misconfigured if there is no store.
        """
        options = _options(cache_mb)
        options.create_if_missing(False)
        # the writer may delete files; files that are open stay readable
        options.set_max_open_files(-1)
        self = cls.__new__(cls)
        self._name = f"{what} in {folder}"
        try:
            self._db = _opened(folder, options, AccessType.read_only())
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise Misconfigured(f"cannot read {self._name}: {str(fault)[:200]}") from fault
        self._without_wal = None
        return self

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._translated_errors():
            return list(self._db.get(list(keys)) or ())

    def ascending(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._translated_errors():
            rows = self._db.iter()
            rows.seek(first)
            while rows.valid() and (key := rows.key()) < end:
                yield key, rows.value()
                rows.next()

    def write(self, rows: Mapping[bytes, bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        deque(starmap(batch.put, rows.items()), maxlen=0)
        with self._translated_errors():
            self._db.write(batch, self._without_wal)

    def clear(self) -> None:
        batch = WriteBatch(raw_mode=True)
        with self._translated_errors():
            for key in self._db.keys():  # noqa: SIM118 (Rdict is not a dict)
                batch.delete(key)
            self._db.write(batch, self._without_wal)

    def estimated_rows(self) -> int:
        with self._translated_errors():
            return self._db.property_int_value("rocksdb.estimate-num-keys") or 0

    def close(self) -> None:
        with self._translated_errors():
            if self._without_wal is not None:  # None: opened for reading only
                self._db.flush()
            self._db.close()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise StoreFailed(self._name, fault) from fault


def _opened(folder: Path, options: Options, access: AccessType) -> Rdict:
    # in a folder that exists, rocksdict applies a column family's options only if they are named for it
    return Rdict(str(folder), options, {"default": options}, access)


def _options(cache_mb: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 * 1024 * 1024)
    options.set_max_write_buffer_number(2)
    # each key is looked for in memory first, where few are: a filter is quicker than the skip list
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.1)
    options.set_max_open_files(200)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(cache_mb * 1024 * 1024))
    blocks.set_bloom_filter(10, False)
    options.set_block_based_table_factory(blocks)
    return options
