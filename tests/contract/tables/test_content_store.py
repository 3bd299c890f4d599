"""The content store behaves the same on every kind of store: a folder, an S3 bucket, memory."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore, ObjectStore

from schemas.errors import (
    CJStreamError,
    ContentCorrupt,
    ContentFailed,
    ContentMissing,
    ContentTimeout,
    ContentUnreachable,
    Malformed,
    Misconfigured,
)
from tables.content_location import ContentLocation
from tables.content_store import NEVER_STORED, PLAIN_TEXT, ContentStore, ListedText, StoredText
from tests.support.s3_stub import Bucket, bucket_server

ROOT = Path(__file__).parents[3]
TEXT = "Bedöm argumentationen.".encode()
ID = hashlib.sha256(TEXT).hexdigest()
UNKNOWN = "0" * 64
WRONG_IDS = (
    "",
    "..",
    "../../etc/passwd",
    f"../{ID}",
    f"{ID[:2]}/{ID}",
    ID.upper(),
    ID[:-1],
    f"{ID}0",
    f"{ID}\n",
    f"\0{ID[1:]}",
    "\u0661" * 64,
)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with bucket_server() as bucket:
        yield bucket


@pytest.fixture(params=["folder", "bucket", "memory"])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "folder":
        return LocalStore(tmp_path / "content", mkdir=True)
    bucket: Bucket = request.getfixturevalue("bucket")
    return bucket.store()


@pytest.fixture
def store(raw: ObjectStore) -> ContentStore:
    return ContentStore(raw)


def path_of(kind: str, storage_id: str = ID) -> str:
    return f"{kind}/{storage_id[:2]}/{storage_id}"


def listed(store: ContentStore) -> list[str]:
    return [text.storage_id for text in store.list_texts()]


def trashed(store: ContentStore) -> list[str]:
    return [text.storage_id for text in store.list_trash()]


def test_a_text_is_read_as_it_was_stored_under_its_sha256(store: ContentStore) -> None:
    stored = store.put(TEXT)
    assert stored == StoredText(ID, len(TEXT), PLAIN_TEXT, existed=False)
    assert (store.get(ID), store.head(ID)) == (TEXT, StoredText(ID, len(TEXT)))


def test_any_bytes_of_an_allowed_size_are_stored(store: ContentStore) -> None:
    for text in (b"\0", bytes(range(256)), b"x" * 1024 * 1024):
        assert store.get(store.put(text).storage_id) == text


@pytest.mark.parametrize("size", [0, 1024 * 1024 + 1])
def test_a_text_of_a_refused_size_is_not_stored(store: ContentStore, size: int) -> None:
    with pytest.raises(Malformed, match=str(size)):
        store.put(b"x" * size)
    assert listed(store) == []


def test_an_unknown_id_is_missing(store: ContentStore) -> None:
    for method in (store.get, store.head, store.renew):
        with pytest.raises(ContentMissing, match=UNKNOWN) as refusal:
            method(UNKNOWN)
        assert refusal.value.storage_id == UNKNOWN


@pytest.mark.parametrize("wrong", WRONG_IDS)
def test_an_invalid_id_never_reaches_the_store(store: ContentStore, wrong: str) -> None:
    methods = (store.get, store.head, store.renew, store.restore, store.erase)
    for method in methods:
        with pytest.raises(Malformed, match="not a storage id"):
            method(wrong)


def test_the_first_media_type_stays(store: ContentStore) -> None:
    assert store.put(TEXT, "text/markdown; charset=utf-8").media_type.startswith("text/markdown")
    again = store.put(TEXT, "application/json")
    assert (again.existed, again.media_type) == (True, "text/markdown; charset=utf-8")
    assert store.head(ID).media_type == "text/markdown; charset=utf-8"


def test_plain_text_stays_plain_text(store: ContentStore) -> None:
    store.put(TEXT)
    assert store.put(TEXT, "text/html").media_type == PLAIN_TEXT
    assert store.head(ID).media_type == PLAIN_TEXT


def test_the_media_type_of_an_interrupted_put_is_the_first(
    raw: ObjectStore, store: ContentStore
) -> None:
    obstore.put(raw, path_of("media"), b"text/markdown")
    stored = store.put(TEXT, "application/json")
    assert (stored.existed, stored.media_type) == (False, "text/markdown")


def test_damaged_bytes_are_never_returned_and_a_new_put_repairs_them(
    raw: ObjectStore, store: ContentStore
) -> None:
    store.put(TEXT)
    for damaged in (b"", TEXT[:-1], TEXT + b" "):
        obstore.put(raw, path_of("sha256"), damaged)
        for method in (store.get, store.renew):
            with pytest.raises(ContentCorrupt, match=ID) as refusal:
                method(ID)
            assert refusal.value.storage_id == ID
    store.put(TEXT)
    assert store.get(ID) == TEXT


def test_put_and_renew_reset_the_age_of_a_text(raw: ObjectStore, store: ContentStore) -> None:
    renewals: tuple[Callable[[], StoredText], ...] = (
        lambda: store.put(TEXT),
        lambda: store.renew(ID),
    )
    for renew in renewals:
        store.put(TEXT)
        (before,) = store.list_texts()
        moved_on = wait_for_the_clock(raw, before.stored_at)
        assert renew().existed
        (after,) = store.list_texts()
        assert (after.storage_id, after.size_bytes) == (ID, len(TEXT))
        assert after.stored_at >= moved_on > before.stored_at


def wait_for_the_clock(raw: ObjectStore, before: datetime) -> datetime:
    """The store's current time, after waiting until it is later than `before`."""
    while True:
        obstore.put(raw, "clock", b"tick")
        (ticked,) = [
            meta for batch in obstore.list(raw) for meta in batch if meta["path"] == "clock"
        ]
        if ticked["last_modified"] > before:
            return ticked["last_modified"]


def test_a_listing_skips_other_objects(raw: ObjectStore, store: ContentStore) -> None:
    store.put(TEXT, "text/markdown")
    for other_path in ("sha256/README", f"sha256/{ID}", f"sha256/00/{ID}", "trash/x", "other"):
        obstore.put(raw, other_path, b"x")
    assert (listed(store), trashed(store)) == ([ID], [])


def test_a_text_in_the_trash_can_be_read_until_it_is_erased(store: ContentStore) -> None:
    store.put(TEXT, "text/markdown")
    (seen,) = store.list_texts()
    assert store.trash(seen)
    assert (listed(store), trashed(store), store.get(ID)) == ([], [ID], TEXT)
    assert store.head(ID) == StoredText(ID, len(TEXT), "text/markdown")
    store.erase(ID)
    assert trashed(store) == []
    with pytest.raises(ContentMissing):
        store.get(ID)
    assert store.put(TEXT).media_type == PLAIN_TEXT


def test_a_discarded_text_is_gone_and_can_be_stored_again(store: ContentStore) -> None:
    store.put(TEXT, "text/markdown")
    (seen,) = store.list_texts()
    assert store.trash(seen)
    store.put(TEXT)  # live, and in the trash
    assert store.has(ID)
    assert store.stored_at(ID) is not None
    assert store.discard(ID)
    assert (listed(store), trashed(store), store.has(ID)) == ([], [], False)
    assert store.stored_at(ID) is None
    assert not store.discard(ID)
    assert store.put(TEXT).media_type == PLAIN_TEXT


def test_a_text_only_in_the_trash_is_discarded_too(store: ContentStore) -> None:
    store.put(TEXT)
    (seen,) = store.list_texts()
    assert store.trash(seen)
    assert (store.has(ID), store.stored_at(ID)) == (True, None)
    assert store.discard(ID)
    assert trashed(store) == []


def test_the_age_in_the_trash_starts_with_the_move(tmp_path: Path) -> None:
    store = ContentStore.open(ContentLocation((tmp_path / "content").as_uri()))
    store.put(TEXT)
    os.utime(tmp_path / "content" / path_of("sha256"), (0, 0))
    (seen,) = store.list_texts()
    store.trash(seen)
    (in_trash,) = store.list_trash()
    assert in_trash.stored_at - seen.stored_at > timedelta(days=365)


def test_a_text_renewed_after_the_listing_is_not_moved_to_the_trash(store: ContentStore) -> None:
    store.put(TEXT)
    long_ago = datetime.now(UTC) - timedelta(days=8)
    assert not store.trash(ListedText(ID, len(TEXT), long_ago))
    assert listed(store) == [ID]


def test_a_text_is_restored_from_the_trash(store: ContentStore) -> None:
    store.put(TEXT)
    (seen,) = store.list_texts()
    store.trash(seen)
    store.restore(ID)
    assert (listed(store), trashed(store), store.get(ID)) == ([ID], [], TEXT)


def test_a_text_stored_again_survives_the_end_of_its_copy_in_the_trash(
    raw: ObjectStore, store: ContentStore
) -> None:
    for method in (store.restore, store.erase):
        store.put(TEXT, "text/markdown")
        obstore.put(raw, path_of("trash"), b"damaged")
        assert store.put(TEXT, "text/html").existed
        method(ID)
        assert (listed(store), trashed(store), store.get(ID)) == ([ID], [], TEXT)
        assert store.head(ID).media_type == "text/markdown"


def test_a_text_in_the_trash_exists_and_renewing_it_makes_it_live(store: ContentStore) -> None:
    renewals: tuple[Callable[[], StoredText], ...] = (
        lambda: store.put(TEXT),
        lambda: store.renew(ID),
    )
    for renew in renewals:
        store.put(TEXT)
        (seen,) = store.list_texts()
        store.trash(seen)
        assert renew().existed
        store.erase(ID)
        assert store.get(ID) == TEXT


def test_a_probe_of_a_working_store_succeeds(store: ContentStore) -> None:
    store.probe()
    with pytest.raises(ContentMissing):
        store.get(NEVER_STORED)


@pytest.mark.parametrize("url", ["", "folder", "ftp://host/x", "s3://", "az://no-account/x"])
def test_an_invalid_url_is_refused_and_not_repeated_in_the_message(url: str) -> None:
    with pytest.raises(Misconfigured, match="CJSTREAM_CONTENT_URL") as refusal:
        ContentStore.open(ContentLocation(url))
    assert "host" not in str(refusal.value)


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match=r"/file/texts: Not a directory\)$"):
        ContentStore.open(ContentLocation((tmp_path / "file" / "texts").as_uri()))


# Failures of the store


def folder_store(tmp_path: Path) -> tuple[ContentStore, Path]:
    folder = tmp_path / "content"
    return ContentStore.open(ContentLocation(folder.as_uri())), folder


def test_a_file_in_place_of_a_folder_is_a_store_failure(tmp_path: Path) -> None:
    store, folder = folder_store(tmp_path)
    (folder / "sha256").write_bytes(b"")
    for call in (
        lambda: store.put(TEXT),
        lambda: store.get(ID),
        lambda: store.head(ID),
        store.probe,
    ):
        with pytest.raises(ContentFailed, match=os.strerror(errno.ENOTDIR)) as failure:
            call()
        assert TEXT.decode() not in str(failure.value)


def test_a_folder_in_place_of_a_text_is_missing_and_cannot_be_written(tmp_path: Path) -> None:
    store, folder = folder_store(tmp_path)
    (folder / path_of("sha256")).mkdir(parents=True)
    with pytest.raises(ContentMissing):
        store.get(ID)
    with pytest.raises(ContentFailed) as failure:
        store.put(TEXT)
    assert failure.value.storage_id == ID


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into a read-only folder")
def test_a_read_only_folder_is_a_store_failure(tmp_path: Path) -> None:
    store, folder = folder_store(tmp_path)
    folder.chmod(0o500)
    try:
        with pytest.raises(ContentFailed, match=os.strerror(errno.EACCES)):
            store.put(TEXT)
    finally:
        folder.chmod(0o700)


PUT_WITH_FILE_SIZE_LIMIT = """
import resource, sys
from schemas.errors import ContentFailed
from tables.content_location import ContentLocation
from tables.content_store import ContentStore
store = ContentStore.open(ContentLocation(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.put(b"x" * 2000)
except ContentFailed as fault:
    print(fault)
"""


def test_a_write_past_the_file_size_limit_is_a_store_failure_and_leaves_no_partial_text(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "content"
    command = [sys.executable, "-c", PUT_WITH_FILE_SIZE_LIMIT, folder.as_uri()]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert os.strerror(errno.EFBIG) in completed.stdout
    assert [path for path in folder.rglob("*") if path.is_file()] == []


PUT_WITH_URL = """
import sys
from schemas.errors import ContentFailed
from tables.content_location import ContentLocation
from tables.content_store import ContentStore
store = ContentStore.open(ContentLocation("s3://bucket/some/prefix"))
try:
    print(store.put(b"text").storage_id)
except ContentFailed as fault:
    print(fault)
"""


def test_a_request_is_retried_twice_before_it_fails(bucket: Bucket) -> None:
    """For a store opened with a URL and options from the environment."""
    aws = {"REGION": "test", "ENDPOINT": bucket.endpoint, "ALLOW_HTTP": "true"}
    variables = {f"AWS_{name}": value for name, value in (aws | {"SKIP_SIGNATURE": "true"}).items()}

    def put() -> str:
        completed = subprocess.run(
            [sys.executable, "-c", PUT_WITH_URL],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return completed.stdout.strip()

    bucket.faults.extend([500, 503])
    storage_id = put()
    assert list(bucket.objects) == [f"some/prefix/{path_of('sha256', storage_id)}"]
    bucket.faults.extend([500, 503, 500])
    assert "500" in put()
    assert not bucket.faults


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_request_is_a_store_failure(bucket: Bucket, status: int) -> None:
    bucket.faults.extend([status] * 3)
    with pytest.raises(ContentFailed, match=str(status)):
        ContentStore(bucket.store()).put(TEXT)


def test_a_store_that_does_not_respond_times_out(bucket: Bucket) -> None:
    bucket.thawed.clear()
    with pytest.raises(ContentTimeout):
        ContentStore(bucket.store(timeout="50ms")).get(ID)


def test_a_store_that_does_not_listen_is_unreachable() -> None:
    with socket.socket() as unused:  # bound, but not listening
        unused.bind(("127.0.0.1", 0))
        bucket = Bucket(f"http://127.0.0.1:{unused.getsockname()[1]}")
        store = ContentStore(bucket.store())
        for call in (
            lambda: store.put(TEXT),
            lambda: store.get(ID),
            lambda: list(store.list_texts()),
        ):
            with pytest.raises(ContentUnreachable):
                call()


def test_a_missing_bucket_is_a_store_failure_and_not_a_missing_text(bucket: Bucket) -> None:
    bucket.faults.extend([404] * 4)  # for looking up the text, then for writing it
    with pytest.raises(ContentFailed, match="no such folder or bucket"):
        ContentStore(bucket.store()).put(TEXT)
    bucket.is_gone = True
    with pytest.raises(ContentFailed, match="no such bucket"):
        ContentStore(bucket.store()).probe()


def test_every_http_error_gives_a_cjstream_error(bucket: Bucket) -> None:
    store = ContentStore(bucket.store())
    calls: tuple[Callable[[ContentStore], object], ...] = (
        lambda store: store.put(TEXT),
        lambda store: store.get(ID),
        lambda store: list(store.list_texts()),
        lambda store: store.erase(ID),
    )
    for status in (400, 401, 403, 409, 412, 429):
        for call in calls:
            bucket.faults.clear()
            bucket.faults.extend([status] * 9)
            with pytest.raises(CJStreamError):
                call(store)


def test_nobody_else_may_read_a_text_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "å ä" / "content"
    stored = ContentStore.open(ContentLocation(folder.as_uri())).put(b"a text of a pupil")
    [file] = [path for path in folder.rglob("*") if path.is_file()]
    assert file.name == stored.storage_id
    assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_folder_that_is_gone_is_unreachable_and_no_text_of_it_missing(tmp_path: Path) -> None:
    folder = tmp_path / "content"
    store = ContentStore.open(ContentLocation(folder.as_uri()))
    store.put(TEXT)
    folder.rename(tmp_path / "unmounted")
    calls: tuple[Callable[[], object], ...] = (
        lambda: store.get(ID),
        lambda: store.head(UNKNOWN),
        lambda: store.put(TEXT),
    )
    for call in calls:
        with pytest.raises(ContentUnreachable, match="folder is gone"):
            call()
    assert not folder.exists()
    (tmp_path / "unmounted").rename(folder)
    assert store.get(ID) == TEXT
    with pytest.raises(ContentMissing):
        store.head(UNKNOWN)
