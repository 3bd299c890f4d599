"""Buckets on disk give back every row in order, the rows of one scope together, and tell a disk that fails."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import StoreFailed
from tools.audit.verify.join_spill import (
    BYTES,
    ROWS,
    JoinSpill,
    bucket_folder,
    buckets_for,
    read_bucket,
)

WORDS = r"the audit's buckets in .*own cannot be read or written"
KEYS = [b"assignment:%d" % number for number in range(40)]


def dealt(folder: Path, count: int, rows: list[tuple[bytes, int]]) -> None:
    own = JoinSpill(folder, count)
    for key, number in rows:
        own.put(key, (key, number), size=10)
    own.flush()


def rows_of(folders: list[Path], number: int) -> list[tuple[bytes, int]]:
    return [row for rows in read_bucket(folders, number) for row in rows]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers())), st.integers(1, 8))
def test_every_row_is_in_the_one_bucket_of_its_scope_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bytes, int]], count: int
) -> None:
    folder = tmp_path_factory.mktemp("dealt")
    folders = [folder / "0", folder / "1"]
    dealt(folders[0], count, rows[::2])
    dealt(folders[1], count, rows[1::2])
    found = [rows_of(folders, number) for number in range(count)]
    assert sorted(row for of_bucket in found for row in of_bucket) == sorted(rows)
    for key in KEYS:
        holding = [of_bucket for of_bucket in found if any(row[0] == key for row in of_bucket)]
        assert len(holding) <= 1
        own = [row for of_bucket in holding for row in of_bucket if row[0] == key]
        assert own == [row for row in (*rows[::2], *rows[1::2]) if row[0] == key]


def test_rows_are_written_when_they_are_many_or_large(tmp_path: Path) -> None:
    own = JoinSpill(tmp_path / "own", 1)
    for number in range(ROWS):
        assert (tmp_path / "own" / "0").stat().st_size == 0
        own.put(b"k", (b"k", number), size=1)
    assert len(rows_of([tmp_path / "own"], 0)) == ROWS
    own.put(b"k", (b"k", ROWS), size=BYTES)
    assert len(rows_of([tmp_path / "own"], 0)) == ROWS + 1


def test_so_many_rows_take_so_many_buckets() -> None:
    assert buckets_for(0) == 1
    assert buckets_for(1_200_000) == 31


def test_a_folder_that_is_gone_or_cannot_be_made_is_told(tmp_path: Path) -> None:
    own = JoinSpill(tmp_path / "own", 1)
    own.put(b"k", (b"k", 1), size=1)
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(StoreFailed, match=WORDS):
        own.flush()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFailed):
        JoinSpill(tmp_path / "file" / "own", 1)


def test_a_bucket_that_is_gone_or_cut_off_is_told(tmp_path: Path) -> None:
    dealt(tmp_path / "own", 2, [(key, 1) for key in KEYS])
    path = tmp_path / "own" / "1"
    path.write_bytes(path.read_bytes()[:-3])
    assert rows_of([tmp_path / "own"], 0)
    with pytest.raises(StoreFailed, match=WORDS):
        rows_of([tmp_path / "own"], 1)
    path.unlink()
    with pytest.raises(StoreFailed, match=WORDS):
        rows_of([tmp_path / "own"], 1)


def test_the_folder_is_gone_with_the_block() -> None:
    with bucket_folder() as folder:
        dealt(folder / "own", 1, [(b"k", 1)])
    assert not folder.exists()
