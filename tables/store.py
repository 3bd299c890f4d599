"""Where the replica's rows and positions lie: on disk (rocksdict), or in memory for a dry run.

A write shows its rows and its positions together or not at all: both go into one WriteBatch.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

ROW = b"r"
NOTE = b"n"


class Store(Protocol):
    """Rows by scope key, and notes (positions, versions) by name, written together."""

    def row(self, key: str) -> bytes | None:
        """The row of one scope."""

    def notes(self) -> dict[str, bytes]:
        """Every note."""

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """Every row, by key."""

    def write(self, rows: Mapping[str, bytes], notes: Mapping[str, bytes]) -> None:
        """Put rows and notes, all or nothing."""

    def clear(self) -> None:
        """Forget everything."""

    def close(self) -> None:
        """Flush what is in memory and let go of the folder."""


class MemoryStore:
    """A store that lives as long as its process."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}
        self._notes: dict[str, bytes] = {}

    def row(self, key: str) -> bytes | None:
        return self._rows.get(key)

    def notes(self) -> dict[str, bytes]:
        return dict(self._notes)

    def rows(self) -> Iterator[tuple[str, bytes]]:
        return iter(sorted(self._rows.items()))

    def write(self, rows: Mapping[str, bytes], notes: Mapping[str, bytes]) -> None:
        self._rows.update(rows)
        self._notes.update(notes)

    def clear(self) -> None:
        self._rows.clear()
        self._notes.clear()

    def close(self) -> None:
        pass


class RocksStore:
    """A store in a folder of its own; one process at a time.

    The write-ahead log is off: a kill loses the newest writes, but rows and positions agree, and
    the rest is read again from Kafka.
    """

    def __init__(self, folder: Path, *, cache_mb: int) -> None:
        self._folder = folder
        try:
            self._db = open_db(folder, cache_mb)
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise Misconfigured(
                f"cannot open the replica in {folder}: another process holds it, the disk is full or "
                f"the folder is damaged ({str(fault)[:200]}); a damaged one may be deleted, it is rebuilt"
            ) from fault
        self._without_wal: WriteOptions | None = without_wal()

    @classmethod
    def as_it_stands(cls, folder: Path, *, cache_mb: int) -> "RocksStore":
        """What was last flushed there, to be read alone; the process that writes it is not disturbed.

        Raises Misconfigured where there is no store.
        """
        options = _options(cache_mb)
        options.create_if_missing(False)
        options.set_max_open_files(-1)  # the writer may delete files: those that are open stay
        self = cls.__new__(cls)
        self._folder = folder
        try:
            self._db = Rdict(str(folder), options, access_type=AccessType.read_only())
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise Misconfigured(f"no replica to read in {folder}: {str(fault)[:200]}") from fault
        self._without_wal = None
        return self

    def row(self, key: str) -> bytes | None:
        with self._disk():
            value: bytes | None = self._db.get(ROW + key.encode())
            return value

    def notes(self) -> dict[str, bytes]:
        return {key[1:].decode(): value for key, value in self._below(NOTE)}

    def rows(self) -> Iterator[tuple[str, bytes]]:
        return ((key[1:].decode(), value) for key, value in self._below(ROW))

    def _below(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._disk():
            for key, value in self._db.items(from_key=kind):
                if not isinstance(key, bytes) or not key.startswith(kind):
                    return  # raw mode: all are bytes
                yield key, value

    def write(self, rows: Mapping[str, bytes], notes: Mapping[str, bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in rows.items():
            batch.put(ROW + key.encode(), value)
        for name, value in notes.items():
            batch.put(NOTE + name.encode(), value)
        with self._disk():
            self._db.write(batch, self._without_wal)

    def clear(self) -> None:
        batch = WriteBatch(raw_mode=True)
        with self._disk():
            for key in self._db.keys():  # noqa: SIM118 (it is no dict)
                batch.delete(key)
            self._db.write(batch, self._without_wal)

    def close(self) -> None:
        with self._disk():
            if self._without_wal is not None:  # else it was opened to be read alone
                self._db.flush()
            self._db.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise StoreFailed(f"the replica in {self._folder}", fault) from fault


def open_db(folder: Path, cache_mb: int) -> Rdict:
    """A folder of rocksdict, in raw mode; raises its plain Exceptions."""
    folder.mkdir(parents=True, exist_ok=True)
    return Rdict(str(folder), _options(cache_mb))


def without_wal() -> WriteOptions:
    """Writes that a kill may lose, but never tears."""
    options = WriteOptions()
    setattr(options, "disable_wal", True)  # noqa: B010 (a property, typed as a method)
    return options


def _options(cache_mb: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 * 1024 * 1024)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(200)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(cache_mb * 1024 * 1024))
    blocks.set_bloom_filter(10, False)
    options.set_block_based_table_factory(blocks)
    return options
