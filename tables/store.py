"""Storage of the replica's rows and positions: on disk (rocksdict), or in memory for a dry run.

Rows and positions of one write become visible together or not at all: both go into one WriteBatch.
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
METADATA = b"n"


class Store(Protocol):
    """Rows by scope key, and metadata (positions, versions, topic ids) by name, written together."""

    def row(self, key: str) -> bytes | None:
        """The row of one scope."""

    def metadata(self) -> dict[str, bytes]:
        """The metadata, by name."""

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """Every row, in the order of keys."""

    def write(self, rows: Mapping[str, bytes], metadata: Mapping[str, bytes]) -> None:
        """Store rows and metadata, all or nothing."""

    def clear(self) -> None:
        """Delete every row and all metadata."""

    def close(self) -> None:
        """Flush to disk and close the folder."""


class MemoryStore:
    """A store in memory; it ends with its process."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}
        self._metadata: dict[str, bytes] = {}

    def row(self, key: str) -> bytes | None:
        return self._rows.get(key)

    def metadata(self) -> dict[str, bytes]:
        return dict(self._metadata)

    def rows(self) -> Iterator[tuple[str, bytes]]:
        return iter(sorted(self._rows.items()))

    def write(self, rows: Mapping[str, bytes], metadata: Mapping[str, bytes]) -> None:
        self._rows.update(rows)
        self._metadata.update(metadata)

    def clear(self) -> None:
        self._rows.clear()
        self._metadata.clear()

    def close(self) -> None:
        pass


class RocksStore:
    """A store in its own folder; only one process at a time can open it for writing.

    The write-ahead log is off: a kill loses the newest writes, but rows and positions still agree, and
    the lost uploads are read again from Kafka.
    """

    def __init__(self, folder: Path, *, cache_mb: int) -> None:
        self._folder = folder
        try:
            self._db = open_db(folder, cache_mb)
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise Misconfigured(
                f"cannot open the replica in {folder}: another process has it open, the disk is full or the folder "
                f"is damaged ({str(fault)[:200]}); if it is damaged, delete it, then the replica is rebuilt"
            ) from fault
        self._without_wal: WriteOptions | None = without_wal()

    @classmethod
    def open_read_only(cls, folder: Path, *, cache_mb: int) -> "RocksStore":
        """Open the last flushed state of a store for reading only; a process that writes it is not disturbed.

        Raises Misconfigured if there is no store.
        """
        options = _options(cache_mb)
        options.create_if_missing(False)
        # the writer may delete files; files that are open stay readable
        options.set_max_open_files(-1)
        self = cls.__new__(cls)
        self._folder = folder
        try:
            self._db = Rdict(str(folder), options, access_type=AccessType.read_only())
        except Exception as fault:  # rocksdict raises plain Exceptions
            raise Misconfigured(f"no replica to read in {folder}: {str(fault)[:200]}") from fault
        self._without_wal = None
        return self

    def row(self, key: str) -> bytes | None:
        with self._translated_errors():
            value: bytes | None = self._db.get(ROW + key.encode())
            return value

    def metadata(self) -> dict[str, bytes]:
        return {key[1:].decode(): value for key, value in self._with_prefix(METADATA)}

    def rows(self) -> Iterator[tuple[str, bytes]]:
        return ((key[1:].decode(), value) for key, value in self._with_prefix(ROW))

    def _with_prefix(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._translated_errors():
            for key, value in self._db.items(from_key=prefix):
                if not isinstance(key, bytes) or not key.startswith(prefix):
                    return  # in raw mode every key is bytes
                yield key, value

    def write(self, rows: Mapping[str, bytes], metadata: Mapping[str, bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in rows.items():
            batch.put(ROW + key.encode(), value)
        for name, value in metadata.items():
            batch.put(METADATA + name.encode(), value)
        with self._translated_errors():
            self._db.write(batch, self._without_wal)

    def clear(self) -> None:
        batch = WriteBatch(raw_mode=True)
        with self._translated_errors():
            for key in self._db.keys():  # noqa: SIM118 (Rdict is not a dict)
                batch.delete(key)
            self._db.write(batch, self._without_wal)

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
            raise StoreFailed(f"the replica in {self._folder}", fault) from fault


def open_db(folder: Path, cache_mb: int) -> Rdict:
    """Open a folder with rocksdict in raw mode; rocksdict's plain Exceptions pass through."""
    folder.mkdir(parents=True, exist_ok=True)
    return Rdict(str(folder), _options(cache_mb))


def without_wal() -> WriteOptions:
    """Options for writes without a write-ahead log: a kill may lose a write, but never a part of one."""
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
