"""Uploads of a research run to a content store on loopback: ten at a time, each once, through a bad day."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from processors.http_clients import http_client
from schemas.errors import CJStreamError, Discrepancy, Unreachable
from tests.support.flaky_content_store import FlakyStore, flaky_store
from tools.runner.content_client import TRIES, ContentClient, Pauses
from tools.runner.uploads import AT_A_TIME, ChecksumCache, upload_texts

TEXTS = {sha256(text).hexdigest(): text for text in (f"Text {n}.".encode() for n in range(200))}


@contextmanager
def client_of(store: FlakyStore, pauses: list[float]) -> Iterator[ContentClient]:
    with flaky_store(store), http_client(store.url) as client:
        waiting = Pauses(pauses.append, lambda: 0.5)
        yield ContentClient(store.url, client, lambda: "a token", waiting)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_200_texts_are_stored_ten_at_a_time_and_none_twice_when_a_fifth_of_the_calls_fails(
    tmp_path: Path, status: int
) -> None:
    store, pauses = FlakyStore(refused_share=0.2, refused_status=status), list[float]()
    with client_of(store, pauses) as client:
        counts = upload_texts(TEXTS, client, ChecksumCache(tmp_path / "cache.json"))
    assert (counts.sent, counts.known) == (200, 0)
    assert store.texts == TEXTS
    assert set(store.stored.values()) == {1}
    assert 2 <= store.most_in_flight <= AT_A_TIME
    assert store.refused == len(pauses) >= 20


def test_pauses_double_and_vary(tmp_path: Path) -> None:
    pauses = list[float]()
    store = FlakyStore(refused_share=1.0)
    one = dict(list(TEXTS.items())[:1])
    with client_of(store, pauses) as client, pytest.raises(Unreachable, match=f"{TRIES} times"):
        upload_texts(one, client, ChecksumCache(tmp_path / "cache.json"))
    assert pauses == [0.375, 0.75, 1.5, 3.0]


def test_known_texts_are_proven_and_sent_only_if_the_store_lacks_them(tmp_path: Path) -> None:
    store = FlakyStore()
    some = dict(list(TEXTS.items())[:20])
    with client_of(store, []) as client:
        cache = tmp_path / "folder" / "cache.json"
        upload_texts(some, client, ChecksumCache(cache))
        lost = next(iter(some))
        del store.texts[lost]
        store.calls.clear()
        counts = upload_texts(some, client, ChecksumCache(cache))  # as a new process reads it
        assert (counts.sent, counts.known) == (1, 19)
        assert store.calls == {"HEAD": 20, "POST": 1}
        store.calls.clear()
        forced = upload_texts(some, client, ChecksumCache(cache), force=True)
        assert (forced.sent, store.calls) == (20, {"POST": 20})


def test_the_cache_is_of_one_store_and_may_be_damaged(tmp_path: Path) -> None:
    cache = ChecksumCache(tmp_path / "cache.json")
    cache.add("http://one", ["a"])
    cache.add("http://two", ["b"])
    assert [sorted(cache.known(f"http://{name}")) for name in ("one", "two")] == [["a"], ["b"]]
    (tmp_path / "cache.json").write_text("{")
    assert not cache.known("http://one")


def test_what_was_stored_before_a_failure_is_known_afterwards(tmp_path: Path) -> None:
    store = FlakyStore(refused_share=0.9, seed=3)
    cache = ChecksumCache(tmp_path / "cache.json")
    with client_of(store, []) as client:
        with pytest.raises(Unreachable):
            upload_texts(TEXTS, client, cache)
        assert cache.known(client.url) == store.texts.keys()
        store.refused_share = 0.0
        upload_texts(TEXTS, client, cache)
    assert set(store.stored.values()) == {1}


def test_a_store_that_names_another_id_is_a_discrepancy(tmp_path: Path) -> None:
    with client_of(FlakyStore(lies=True), []) as client, pytest.raises(Discrepancy):
        upload_texts(TEXTS, client, ChecksumCache(tmp_path / "cache.json"))


def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    pauses = list[float]()
    store = FlakyStore(refused_share=1.0, refused_status=403)
    with client_of(store, pauses) as client, pytest.raises(CJStreamError, match="403"):
        client.store(b"Text.")
    assert pauses == []
