"""The broker's jars are those of the checked-in list, or there is no broker."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from schemas.errors import Misconfigured, Unreachable
from tools.jars import KAFKA, Fetch, Jar, Source, ensure_jars, listed_jars

WHOLE = b"a jar"
JAR = Jar("org.example:one:1.0", "one-1.0.jar", hashlib.sha256(WHOLE).hexdigest(), "broker")


def lending(folder: Path, *contents: bytes) -> Source:
    """A cache whose n-th answer to a missing file is the n-th of contents."""
    downloads = iter(contents)

    def fetch(jar: Jar) -> Path:
        path = folder / jar.file_name
        if not path.exists():
            path.write_bytes(next(downloads))
        return path

    return lambda: nullcontext(fetch)


@contextmanager
def without_network() -> Iterator[Fetch]:
    def fetch(jar: Jar) -> Path:
        raise ConnectionError(jar.coordinates)

    yield fetch


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def test_a_jar_with_the_listed_sum_is_placed(tmp_path: Path, cache: Path) -> None:
    libs = ensure_jars(tmp_path / "libs", (JAR,), lending(cache, WHOLE))
    assert [(path.name, path.read_bytes()) for path in libs.iterdir()] == [(JAR.file_name, WHOLE)]


def test_a_jar_with_another_sum_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(Misconfigured, match=f"{JAR.coordinates} refused: its sha256 is"):
        ensure_jars(tmp_path / "libs", (JAR,), lending(cache, b"tampered", b"tampered"))
    assert not list((tmp_path / "libs").iterdir())


def test_what_an_interrupted_download_left_in_the_cache_is_fetched_anew(
    tmp_path: Path, cache: Path
) -> None:
    (cache / JAR.file_name).write_bytes(WHOLE[:2])
    libs = ensure_jars(tmp_path / "libs", (JAR,), lending(cache, WHOLE))
    assert (libs / JAR.file_name).read_bytes() == WHOLE


def test_a_jar_tampered_with_after_it_was_placed_is_replaced(tmp_path: Path, cache: Path) -> None:
    libs = ensure_jars(tmp_path / "libs", (JAR,), lending(cache, WHOLE))
    (libs / JAR.file_name).write_bytes(b"a rat")
    ensure_jars(libs, (JAR,), lending(cache))
    assert (libs / JAR.file_name).read_bytes() == WHOLE


def test_placed_jars_need_no_network(tmp_path: Path, cache: Path) -> None:
    libs = ensure_jars(tmp_path / "libs", (JAR,), lending(cache, WHOLE))
    assert ensure_jars(libs, (JAR,), without_network) == libs


def test_a_jar_that_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=f"{JAR.coordinates} cannot be fetched: ConnectionError"):
        ensure_jars(tmp_path / "libs", (JAR,), without_network)


def test_the_list_is_whole() -> None:
    broker, tools = listed_jars("broker"), listed_jars("tools")
    assert (len(broker), len(tools)) == (45, 4)
    assert KAFKA in {jar.coordinates for jar in broker}
    assert {len(jar.sha256) for jar in (*broker, *tools)} == {64}
