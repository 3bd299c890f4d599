"""Buckets on disk return every row in order, the rows of one scope in one bucket; a failing disk is reported."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import StoreFailed
from tools.audit.verify.join_spill import (
    MAX_BUFFERED_BYTES,
    MAX_BUFFERED_ROWS,
    JoinSpill,
    bucket_folder,
    buckets_for,
    read_bucket,
)

MESSAGE = r"the audit's buckets in .*spill cannot be read or written"
KEYS = [b"assignment:%d" % number for number in range(40)]


def write(folder: Path, count: int, rows: list[tuple[bytes, int]]) -> None:
    spill = JoinSpill(folder, count)
    for key, number in rows:
        spill.put(key, (key, number), size_bytes=10)
    spill.flush()


def rows_of(folders: list[Path], number: int) -> list[tuple[bytes, int]]:
    return [row for rows in read_bucket(folders, number) for row in rows]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers())), st.integers(1, 8))
def test_all_rows_of_a_scope_are_in_one_bucket_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bytes, int]], count: int
) -> None:
    folder = tmp_path_factory.mktemp("buckets")
    folders = [folder / "0", folder / "1"]
    write(folders[0], count, rows[::2])
    write(folders[1], count, rows[1::2])
    buckets = [rows_of(folders, number) for number in range(count)]
    assert sorted(row for bucket in buckets for row in bucket) == sorted(rows)
    for key in KEYS:
        holding = [bucket for bucket in buckets if any(row[0] == key for row in bucket)]
        assert len(holding) <= 1
        rows_of_key = [row for bucket in holding for row in bucket if row[0] == key]
        assert rows_of_key == [row for row in (*rows[::2], *rows[1::2]) if row[0] == key]


def test_rows_are_written_when_the_buffer_is_full(tmp_path: Path) -> None:
    spill = JoinSpill(tmp_path / "spill", 1)
    for number in range(MAX_BUFFERED_ROWS):
        assert (tmp_path / "spill" / "0").stat().st_size == 0
        spill.put(b"k", (b"k", number), size_bytes=1)
    assert len(rows_of([tmp_path / "spill"], 0)) == MAX_BUFFERED_ROWS
    spill.put(b"k", (b"k", MAX_BUFFERED_ROWS), size_bytes=MAX_BUFFERED_BYTES)
    assert len(rows_of([tmp_path / "spill"], 0)) == MAX_BUFFERED_ROWS + 1


def test_the_number_of_buckets_grows_with_the_rows() -> None:
    assert buckets_for(0) == 1
    assert buckets_for(1_200_000) == 31


def test_a_folder_that_is_missing_or_cannot_be_created_is_reported(tmp_path: Path) -> None:
    spill = JoinSpill(tmp_path / "spill", 1)
    spill.put(b"k", (b"k", 1), size_bytes=1)
    shutil.rmtree(tmp_path / "spill")
    with pytest.raises(StoreFailed, match=MESSAGE):
        spill.flush()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFailed):
        JoinSpill(tmp_path / "file" / "spill", 1)


def test_a_bucket_that_is_missing_or_cut_off_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "spill", 2, [(key, 1) for key in KEYS])
    path = tmp_path / "spill" / "1"
    path.write_bytes(path.read_bytes()[:-3])
    assert rows_of([tmp_path / "spill"], 0)
    with pytest.raises(StoreFailed, match=MESSAGE):
        rows_of([tmp_path / "spill"], 1)
    path.unlink()
    with pytest.raises(StoreFailed, match=MESSAGE):
        rows_of([tmp_path / "spill"], 1)


def test_the_folder_is_deleted_when_the_block_ends() -> None:
    with bucket_folder() as folder:
        write(folder / "spill", 1, [(b"k", 1)])
    assert not folder.exists()
