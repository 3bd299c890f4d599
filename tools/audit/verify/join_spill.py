"""Rows on disk, in buckets by scope key, so that one bucket at a time fits in memory: a Grace hash join.

Every process writes to a folder of its own; a bucket consists of the files with its number in all these folders. A file
is a sequence of row lists, each as `marshal` writes it (four times as quick as pickle), with its size before it.
"""

import marshal
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from schemas.errors import StoreFailed

MAX_BUFFERED_ROWS, MAX_BUFFERED_BYTES = 20_000, 16 * 1024 * 1024
ROWS_PER_BUCKET = 40_000
SIZE_BYTES = 8

Row = tuple[Any, ...]  # of texts, bytes, numbers, None and tuples of these


@contextmanager
def bucket_folder() -> Iterator[Path]:
    """A temporary folder (in TMPDIR) for buckets, deleted when the block ends. Raises StoreFailed."""
    try:
        created = tempfile.TemporaryDirectory(prefix="cjstream-verify-")
    except OSError as fault:
        raise StoreFailed("the folder of temporary files (TMPDIR)", fault) from fault
    with created as folder:
        yield Path(folder)


def buckets_for(rows: int) -> int:
    """The number of buckets for this number of rows."""
    return rows // ROWS_PER_BUCKET + 1


class JoinSpill:
    """Writes rows to the buckets of one folder, which it creates."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._buffered: list[list[Row]] = [[] for _ in range(count)]
        self._rows = self._bytes = 0
        with _disk(folder):
            folder.mkdir(parents=True)
            for number in range(count):  # so that a missing file is an error, not an empty bucket
                (folder / str(number)).touch()

    def put(self, scope_key: bytes, row: Row, size_bytes: int) -> None:
        """Add a row of a scope; its size is an estimate. Raises StoreFailed."""
        self._buffered[zlib.crc32(scope_key) % len(self._buffered)].append(row)
        self._rows += 1
        self._bytes += size_bytes
        if self._rows >= MAX_BUFFERED_ROWS or self._bytes >= MAX_BUFFERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows. Raises StoreFailed."""
        for number, rows in enumerate(self._buffered):
            if rows:
                encoded = marshal.dumps(rows)
                with _disk(self._folder), (self._folder / str(number)).open("ab") as file:
                    file.write(len(encoded).to_bytes(SIZE_BYTES, "big"))
                    file.write(encoded)
                rows.clear()
        self._rows = self._bytes = 0


def read_bucket(folders: Iterable[Path], number: int) -> Iterator[list[Any]]:
    """The rows of one bucket, in lists; folder by folder, each in the order of writing. Raises StoreFailed."""
    for folder in folders:
        with _disk(folder), (folder / str(number)).open("rb") as file:
            while size := file.read(SIZE_BYTES):
                yield marshal.loads(_exactly(int.from_bytes(size, "big"), file))


def _exactly(size: int, file: BinaryIO) -> bytes:
    encoded = file.read(size)
    if len(encoded) < size:
        raise EOFError("a bucket ends too early")
    return encoded


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, TypeError) as fault:
        raise StoreFailed(f"the audit's buckets in {folder}", fault) from fault
