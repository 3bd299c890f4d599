"""The token cache: only its owner can read it, it is never half written, and it serves only one API."""

import json
import os
import stat
from pathlib import Path

import pytest

from schemas.errors import CJStreamError
from tests.support.tokens import claims, hs256
from tools.admin.files import replace, write_exactly
from tools.admin.tokens import CachedToken, TokenCache, claims_of, expiry_of

TOKEN = CachedToken("a.b.c", 2_000_000_000.0, "http://api", "http://identity/v1/auth", "refresh")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, warnings: list[str]) -> TokenCache:
    return TokenCache(tmp_path / "made" / "token.json", warnings.append)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_token_is_read_again(cache: TokenCache, warnings: list[str]) -> None:
    cache.write(TOKEN)
    assert (cache.read(), warnings) == (TOKEN, [])


def test_a_token_without_refresh_token_and_identity_url_is_read(cache: TokenCache) -> None:
    dev = CachedToken("a.b.c", 1, "http://api")
    cache.write(dev)
    assert cache.read() == dev


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_has_access_with_every_umask(cache: TokenCache, mask: int) -> None:
    before = os.umask(mask)
    try:
        cache.write(TOKEN)
        cache.write(TOKEN)
    finally:
        os.umask(before)
    assert (mode_of(cache.path), mode_of(cache.path.parent)) == (0o600, 0o700)
    assert list(cache.path.parent.iterdir()) == [cache.path]


def test_a_file_accessible_to_others_is_tightened_with_a_warning(
    cache: TokenCache, warnings: list[str]
) -> None:
    cache.write(TOKEN)
    cache.path.chmod(0o644)
    assert cache.read() == TOKEN
    assert mode_of(cache.path) == 0o600
    [line] = warnings
    assert str(cache.path) in line
    assert TOKEN.access_token not in line


def test_a_configured_folder_keeps_its_mode(tmp_path: Path, warnings: list[str]) -> None:
    tmp_path.chmod(0o755)
    cache = TokenCache(tmp_path / "token.json", warnings.append)
    cache.write(TOKEN)
    assert (cache.read(), mode_of(tmp_path), warnings) == (TOKEN, 0o755, [])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'"a"',
        b"\xff",
        json.dumps({"access_token": "a"}).encode(),
        json.dumps({"access_token": 7, "expires_at_s": 1, "base_url": "b"}).encode(),
        json.dumps({"access_token": "a", "expires_at_s": "1", "base_url": "b"}).encode(),
        json.dumps({"access_token": "a", "expires_at_s": 1, "base_url": "b", "x": 1}).encode(),
    ],
)
def test_an_invalid_file_counts_as_missing(cache: TokenCache, content: bytes) -> None:
    cache.write(TOKEN)
    cache.path.write_bytes(content)
    assert cache.read() is None


def test_a_missing_file_is_neither_read_nor_deleted(cache: TokenCache) -> None:
    assert (cache.read(), cache.delete()) == (None, False)


def test_a_deleted_token_is_gone(cache: TokenCache) -> None:
    cache.write(TOKEN)
    assert (cache.delete(), cache.read(), cache.path.exists()) == (True, None, False)


def test_a_folder_at_the_path_of_the_file_is_a_failure(cache: TokenCache) -> None:
    cache.path.mkdir(parents=True)
    assert cache.read() is None
    with pytest.raises(CJStreamError, match="cannot write"):
        cache.write(TOKEN)
    with pytest.raises(CJStreamError, match="cannot delete"):
        cache.delete()
    assert list(cache.path.parent.iterdir()) == [cache.path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace(path, b"before", 0o600)
    with pytest.raises(TypeError):
        replace(path, "no bytes", 0o600)  # type: ignore[arg-type]
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"before", [path])


def test_a_token_is_usable_until_30_seconds_before_its_expiry() -> None:
    assert TOKEN.is_usable(TOKEN.expires_at_s - 31)
    assert not TOKEN.is_usable(TOKEN.expires_at_s - 30)


def test_the_path_is_in_the_variable_or_in_the_users_folder() -> None:
    configured = TokenCache.from_environment({"CJ_ADMIN_TOKEN_PATH": "/there/t.json"}, print)
    assert configured.path == Path("/there/t.json")
    default = TokenCache.from_environment({}, print).path
    assert (default.name, default.parent.name) == ("admin-token.json", "cjstream")


@pytest.mark.parametrize(
    ("token", "expires_in", "expiry"),
    [
        (hs256(exp=5000), 7, 5000),
        (hs256(exp="soon"), 7, 1007),
        ("opaque", 7, 1007),
        ("opaque", None, 4600),
        ("opaque", "7", 4600),
        ("opaque", True, 4600),
    ],
)
def test_the_expiry_is_in_the_token_else_in_the_response_else_in_an_hour(
    token: str, expires_in: object, expiry: float
) -> None:
    assert expiry_of(token, expires_in, now_s=1000) == expiry


def test_a_tokens_claims_are_read_without_its_key() -> None:
    assert claims_of(hs256("any key"))["sub"] == claims()["sub"]
    assert claims_of("opaque") == {}


def test_a_text_is_written_exactly_and_its_folders_are_created(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "text"
    write_exactly(str(file), "Räksmörgås\r\n")
    assert file.read_bytes() == "Räksmörgås\r\n".encode()
    write_exactly(str(file), "again")
    assert (file.read_bytes(), list(file.parent.iterdir())) == (b"again", [file])


def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_exactly(str(tmp_path / "pipe"), "text")
        assert (os.read(reader, 10), (tmp_path / "pipe").is_fifo()) == (b"text", True)
    finally:
        os.close(reader)


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_exactly(str(tmp_path / "link"), "text")
    assert (tmp_path / "file").read_text() == "text"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("file", ["{folder}", "{folder}/file/below", "\0"])
def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path, file: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CJStreamError, match="cannot write"):
        write_exactly(file.format(folder=tmp_path), "text")
