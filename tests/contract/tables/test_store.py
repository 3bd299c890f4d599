"""Both stores keep the same promises; the one on disk keeps them over a restart, too."""

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


def test_an_empty_store_knows_nothing(store: Store) -> None:
    assert (store.row("assignment:a1"), store.notes(), list(store.rows())) == (None, {}, [])


def test_a_write_shows_its_rows_and_its_notes(store: Store) -> None:
    store.write({"assignment:a1": b"row"}, {"position:uploads/0": b"7"})
    assert (store.row("assignment:a1"), store.notes()) == (b"row", {"position:uploads/0": b"7"})


def test_a_later_write_replaces_what_it_names_and_nothing_else(store: Store) -> None:
    store.write({"a": b"1", "b": b"1"}, {"x": b"1", "y": b"1"})
    store.write({"b": b"2"}, {"y": b"2"})
    assert (dict(store.rows()), store.notes()) == ({"a": b"1", "b": b"2"}, {"x": b"1", "y": b"2"})


def test_rows_come_by_key(store: Store) -> None:
    store.write({"course:ö": b"3", "assignment:z": b"2", "assignment:å": b"1"}, {"n": b""})
    assert [key for key, _ in store.rows()] == ["assignment:z", "assignment:å", "course:ö"]


def test_rows_and_notes_of_one_name_are_apart(store: Store) -> None:
    store.write({"rn": b"row", "": b"empty"}, {"rn": b"note"})
    assert (store.row("rn"), store.row(""), store.notes()) == (b"row", b"empty", {"rn": b"note"})


def test_any_bytes_are_kept(store: Store) -> None:
    store.write({"a\U0001f393": bytes(range(256))}, {})
    assert store.row("a\U0001f393") == bytes(range(256))


def test_a_cleared_store_knows_nothing(store: Store) -> None:
    store.write({"a": b"1"}, {"x": b"1"})
    store.clear()
    assert (store.row("a"), store.notes(), list(store.rows())) == (None, {}, [])
    store.write({"a": b"2"}, {})
    assert store.row("a") == b"2"


def test_a_closed_folder_has_rows_and_notes_when_it_is_opened_again(tmp_path: Path) -> None:
    first = RocksStore(tmp_path / "s", cache_mb=8)
    first.write({"a": b"1"}, {"x": b"1"})
    first.close()
    second = RocksStore(tmp_path / "s", cache_mb=8)
    assert (second.row("a"), second.notes()) == (b"1", {"x": b"1"})
    second.close()


def test_a_folder_that_is_in_use_is_not_opened(tmp_path: Path) -> None:
    first = RocksStore(tmp_path / "s", cache_mb=8)
    with pytest.raises(Misconfigured, match="cannot open the replica"):
        RocksStore(tmp_path / "s", cache_mb=8)
    first.close()
