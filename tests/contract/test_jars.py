"""The broker starts only with exactly the jars of the checked-in list."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from schemas.errors import Misconfigured, Unreachable
from tools.jars import KAFKA, Fetch, Jar, Source, ensure_jars, listed_jars

CONTENT = b"a jar"
JAR = Jar("org.example:one:1.0", "one-1.0.jar", hashlib.sha256(CONTENT).hexdigest(), "broker")


def source_with(folder: Path, *contents: bytes) -> Source:
    """A cache in which the n-th download of a missing file gets the n-th of `contents`."""
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


def test_a_jar_with_the_listed_checksum_is_installed(tmp_path: Path, cache: Path) -> None:
    libs = ensure_jars(tmp_path / "libs", (JAR,), source_with(cache, CONTENT))
    assert [(path.name, path.read_bytes()) for path in libs.iterdir()] == [(JAR.file_name, CONTENT)]


def test_a_jar_with_another_checksum_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(Misconfigured, match=f"{JAR.coordinates} refused: its sha256 is"):
        ensure_jars(tmp_path / "libs", (JAR,), source_with(cache, b"tampered", b"tampered"))
    assert not list((tmp_path / "libs").iterdir())


def test_an_incomplete_download_in_the_cache_is_fetched_again(tmp_path: Path, cache: Path) -> None:
    (cache / JAR.file_name).write_bytes(CONTENT[:2])
    libs = ensure_jars(tmp_path / "libs", (JAR,), source_with(cache, CONTENT))
    assert (libs / JAR.file_name).read_bytes() == CONTENT


def test_an_installed_jar_that_was_tampered_with_is_replaced(tmp_path: Path, cache: Path) -> None:
    libs = ensure_jars(tmp_path / "libs", (JAR,), source_with(cache, CONTENT))
    (libs / JAR.file_name).write_bytes(b"a rat")
    ensure_jars(libs, (JAR,), source_with(cache))
    assert (libs / JAR.file_name).read_bytes() == CONTENT


def test_installed_jars_need_no_network(tmp_path: Path, cache: Path) -> None:
    libs = ensure_jars(tmp_path / "libs", (JAR,), source_with(cache, CONTENT))
    assert ensure_jars(libs, (JAR,), without_network) == libs


def test_a_jar_that_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=f"{JAR.coordinates} cannot be fetched: ConnectionError"):
        ensure_jars(tmp_path / "libs", (JAR,), without_network)


def test_the_list_is_complete() -> None:
    broker, tools = listed_jars("broker"), listed_jars("tools")
    assert (len(broker), len(tools)) == (45, 4)
    assert KAFKA in {jar.coordinates for jar in broker}
    assert {len(jar.sha256) for jar in (*broker, *tools)} == {64}
