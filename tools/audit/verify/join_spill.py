"""Rows on disk, dealt into buckets by scope key, so that one at a time fits in memory: the parts of a Grace hash join.

Every process that deals has a folder of its own; a bucket is what all of them have dealt into it.
"""

import pickle
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.errors import StoreFailed

ROWS, BYTES = 20_000, 16 * 1024 * 1024  # that are held before they are written
IN_A_BUCKET = 40_000

Row = tuple[Any, ...]


@contextmanager
def bucket_folder() -> Iterator[Path]:
    """A folder for buckets among the temporary files (TMPDIR), gone with the block. Raises StoreFailed."""
    try:
        made = tempfile.TemporaryDirectory(prefix="cjstream-verify-")
    except OSError as fault:
        raise StoreFailed("the folder of temporary files (TMPDIR)", fault) from fault
    with made as folder:
        yield Path(folder)


def buckets_for(rows: int) -> int:
    """Into how many buckets to deal so many rows."""
    return rows // IN_A_BUCKET + 1


class JoinSpill:
    """Deals rows into the buckets of one folder, which is made."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._held: list[list[Row]] = [[] for _ in range(count)]
        self._rows = self._bytes = 0
        with _disk(folder):
            folder.mkdir(parents=True)
            for number in range(count):  # so that one that is gone is not taken for an empty one
                (folder / str(number)).touch()

    def put(self, scope_key: bytes, row: Row, size: int) -> None:
        """A row of a scope, and about how many bytes it has. Raises StoreFailed."""
        self._held[zlib.crc32(scope_key) % len(self._held)].append(row)
        self._rows += 1
        self._bytes += size
        if self._rows >= ROWS or self._bytes >= BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held. Raises StoreFailed."""
        for number, rows in enumerate(self._held):
            if rows:
                with _disk(self._folder), (self._folder / str(number)).open("ab") as file:
                    pickle.dump(rows, file, pickle.HIGHEST_PROTOCOL)
                rows.clear()
        self._rows = self._bytes = 0


def read_bucket(folders: Iterable[Path], number: int) -> Iterator[list[Any]]:
    """The rows of one bucket, some at a time, of each folder in the order they were dealt in. Raises StoreFailed."""
    for folder in folders:
        with _disk(folder), (folder / str(number)).open("rb") as file:
            while file.peek(1):
                yield pickle.load(file)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, pickle.UnpicklingError) as fault:
        raise StoreFailed(f"the audit's buckets in {folder}", fault) from fault
