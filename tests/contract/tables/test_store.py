"""Both stores behave the same; the one on disk also keeps its data over a restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import Misconfigured
from tables.store import MemoryStore, RocksStore, Store


def on_disk(folder: Path) -> RocksStore:
    return RocksStore(folder, what="the replica", cache_mb=8)


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = MemoryStore() if request.param == "memory" else on_disk(tmp_path / "s")
    yield opened
    opened.close()


def all_rows(store: Store) -> dict[bytes, bytes]:
    return dict(store.ascending(b"", b"\xff" * 8))


def test_an_empty_store_has_no_rows(store: Store) -> None:
    assert (store.read([b"a"]), store.read([]), all_rows(store)) == ([None], [], {})


def test_a_later_write_replaces_only_the_rows_it_contains(store: Store) -> None:
    store.write({b"a": b"1", b"b": b"1"})
    store.write({b"b": b"2", b"c": b""})
    assert all_rows(store) == {b"a": b"1", b"b": b"2", b"c": b""}


def test_rows_are_read_in_the_order_of_the_requested_keys(store: Store) -> None:
    store.write({b"a": b"1", b"b": b"2"})
    assert store.read([b"b", b"missing", b"a", b"b"]) == [b"2", None, b"1", b"2"]


def test_rows_are_read_by_key_range_in_the_order_of_keys(store: Store) -> None:
    store.write({b"b": b"2", b"a": b"1", b"c\xff": b"4", b"c": b"3"})
    store.write({b"a": b"one"})
    assert list(store.ascending(b"", b"c\xff")) == [(b"a", b"one"), (b"b", b"2"), (b"c", b"3")]
    assert list(store.ascending(b"aa", b"b")) == []


def test_any_bytes_can_be_stored(store: Store) -> None:
    every_byte = bytes(range(256))
    store.write({every_byte: every_byte, b"": b"empty"})
    assert store.read([every_byte, b""]) == [every_byte, b"empty"]


def test_a_cleared_store_has_no_rows(store: Store) -> None:
    store.write({b"a": b"1"})
    store.clear()
    assert (store.read([b"a"]), all_rows(store)) == ([None], {})
    store.write({b"a": b"2"})
    assert all_rows(store) == {b"a": b"2"}


def test_rows_are_there_after_reopening_the_folder(tmp_path: Path) -> None:
    first = on_disk(tmp_path / "s")
    first.write({b"a": b"1"})
    first.close()
    second = on_disk(tmp_path / "s")
    assert second.read([b"a"]) == [b"1"]
    second.close()


def test_a_folder_that_is_opened_again_has_the_filter_and_the_cache_of_a_new_one(
    tmp_path: Path,
) -> None:
    for _ in range(2):
        on_disk(tmp_path).close()
        said = (tmp_path / "LOG").read_text()  # RocksDB's own, new each time
        assert "filter_policy: bloomfilter" in said
        assert f"capacity : {8 * 1024 * 1024}\n" in said


def test_a_folder_in_use_cannot_be_opened_but_read(tmp_path: Path) -> None:
    first = on_disk(tmp_path / "s")
    with pytest.raises(Misconfigured, match="cannot open the replica"):
        on_disk(tmp_path / "s")
    reader = RocksStore.open_read_only(tmp_path / "s", what="the replica", cache_mb=8)
    assert all_rows(reader) == {}
    reader.close()
    first.close()


def test_a_store_that_does_not_exist_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot read the replica"):
        RocksStore.open_read_only(tmp_path / "s", what="the replica", cache_mb=8)
