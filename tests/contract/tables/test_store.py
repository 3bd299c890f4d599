"""Both stores behave the same; the one on disk also keeps its data over a restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import Misconfigured
from tables.store import MemoryStore, RocksStore, Store


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = MemoryStore() if request.param == "memory" else RocksStore(tmp_path / "s", cache_mb=8)
    yield opened
    opened.close()


def test_an_empty_store_has_no_rows_and_no_metadata(store: Store) -> None:
    assert (store.row("assignment:a1"), store.metadata(), list(store.rows())) == (None, {}, [])


def test_a_write_stores_rows_and_metadata(store: Store) -> None:
    store.write({"assignment:a1": b"row"}, {"position:uploads/0": b"7"})
    assert (store.row("assignment:a1"), store.metadata()) == (b"row", {"position:uploads/0": b"7"})


def test_a_later_write_replaces_only_the_rows_and_metadata_it_contains(store: Store) -> None:
    store.write({"a": b"1", "b": b"1"}, {"x": b"1", "y": b"1"})
    store.write({"b": b"2"}, {"y": b"2"})
    assert (dict(store.rows()), store.metadata()) == (
        {"a": b"1", "b": b"2"},
        {"x": b"1", "y": b"2"},
    )


def test_rows_are_sorted_by_key(store: Store) -> None:
    store.write({"course:ö": b"3", "assignment:z": b"2", "assignment:å": b"1"}, {"n": b""})
    assert [key for key, _ in store.rows()] == ["assignment:z", "assignment:å", "course:ö"]


def test_rows_and_metadata_of_the_same_name_are_separate(store: Store) -> None:
    store.write({"rn": b"row", "": b"empty"}, {"rn": b"note"})
    assert (store.row("rn"), store.row(""), store.metadata()) == (b"row", b"empty", {"rn": b"note"})


def test_any_bytes_can_be_stored(store: Store) -> None:
    store.write({"a\U0001f393": bytes(range(256))}, {})
    assert store.row("a\U0001f393") == bytes(range(256))


def test_a_cleared_store_has_no_rows_and_no_metadata(store: Store) -> None:
    store.write({"a": b"1"}, {"x": b"1"})
    store.clear()
    assert (store.row("a"), store.metadata(), list(store.rows())) == (None, {}, [])
    store.write({"a": b"2"}, {})
    assert store.row("a") == b"2"


def test_rows_and_metadata_are_there_after_reopening_the_folder(tmp_path: Path) -> None:
    first = RocksStore(tmp_path / "s", cache_mb=8)
    first.write({"a": b"1"}, {"x": b"1"})
    first.close()
    second = RocksStore(tmp_path / "s", cache_mb=8)
    assert (second.row("a"), second.metadata()) == (b"1", {"x": b"1"})
    second.close()


def test_a_folder_in_use_cannot_be_opened(tmp_path: Path) -> None:
    first = RocksStore(tmp_path / "s", cache_mb=8)
    with pytest.raises(Misconfigured, match="cannot open the replica"):
        RocksStore(tmp_path / "s", cache_mb=8)
    first.close()
