"""The content store: texts by the sha256 of their bytes, behind one URL (a folder, S3, GCS, Azure).

The same bytes have the same id, so a retry is free, and what is read is checked against its id.

  sha256/<2 digits>/<id>   the bytes
  trash/<2 digits>/<id>    bytes that the sweep moved here; they are read from here, too
  media/<2 digits>/<id>    the media type where it is not plain text: an object, since folders keep no attributes
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

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
from schemas.field_limits import SHA256

if TYPE_CHECKING:
    from obstore.store import RetryConfig

MAX_CONTENT_BYTES = 1024 * 1024
PLAIN_TEXT = "text/plain; charset=utf-8"
RETRY: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
ROUNDED_BY = timedelta(seconds=1)  # some stores list milliseconds, but answer with whole seconds
LIVE, TRASH, MEDIA = "sha256", "trash", "media"
NEVER_STORED = hashlib.sha256().hexdigest()  # an empty text is refused
FAULTS = (BaseError, OSError, NotImplementedError)
CAUSE = re.compile(r"HTTP error: [^:\n]+|[^:\n]+ \(os error \d+\)|status code: \d+[^:\n]*")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredText:
    """A text in the store: its id, which is its sha256, and its size; existed says that put found it there."""

    storage_id: str
    size_bytes: int
    media_type: str = PLAIN_TEXT
    existed: bool = True


@dataclass(frozen=True, slots=True)
class ListedText:
    """A text as the store lists it; stored_at is when its bytes were last written where they are."""

    storage_id: str
    size_bytes: int
    stored_at: datetime


class ContentStore:
    """Texts by storage id. Blocking; one object per id, never changed.

    Every method raises ContentUnreachable, ContentTimeout or ContentFailed for the store, and Malformed for what is
    no storage id.
    """

    def __init__(self, store: ObjectStore, max_bytes: int = MAX_CONTENT_BYTES) -> None:
        self._store = store
        self._max_bytes = max_bytes

    @classmethod
    def at(cls, url: str, max_bytes: int = MAX_CONTENT_BYTES) -> "ContentStore":
        """The store at a URL such as file:///srv/content, s3://bucket/prefix or memory:///.

        A remote store, which takes its credentials, endpoint and so on from the environment (AWS_…, GOOGLE_…,
        AZURE_…), is asked twice more where it fails. Raises Misconfigured.
        """
        try:
            if url.startswith("file:"):
                return cls(from_url(url, mkdir=True), max_bytes)
            # no client_options: giving any would hide those of the environment, such as AWS_ALLOW_HTTP
            return cls(from_url(url, retry_config=RETRY), max_bytes)
        except (BaseError, ValueError, TypeError) as fault:
            scheme = url.partition(":")[0][:20]
            raise Misconfigured(
                f"CJSTREAM_CONTENT_URL: no content store at this {scheme!r} URL ({type(fault).__name__})"
            ) from fault

    def put(self, text: bytes, media_type: str = PLAIN_TEXT) -> StoredText:
        """Store a text, or renew the age of one that is there. Its first media type stays.

        Raises Malformed for its size.
        """
        if not 1 <= len(text) <= self._max_bytes:
            raise Malformed(f"a text of {len(text)} bytes, allowed are 1 to {self._max_bytes}")
        storage_id = hashlib.sha256(text).hexdigest()
        existed = self._size(storage_id) is not None
        if not existed and media_type != PLAIN_TEXT:
            self._note(storage_id, media_type)  # before the bytes, which are what makes it exist
        self._write(LIVE, storage_id, text)  # a damaged one is healed by this
        return StoredText(storage_id, len(text), self._media_type(storage_id), existed)

    def get(self, storage_id: str) -> bytes:
        """The bytes of a text. Raises ContentMissing and ContentCorrupt."""
        text = self._anywhere(storage_id, self._read)
        if hashlib.sha256(text).hexdigest() != storage_id:
            raise ContentCorrupt(storage_id)
        return text

    def head(self, storage_id: str) -> StoredText:
        """What is known of a text without reading it. Raises ContentMissing."""
        size = self._size(_checked(storage_id))
        if size is None:
            raise ContentMissing(storage_id)
        return StoredText(storage_id, size, self._media_type(storage_id))

    def renew(self, storage_id: str) -> StoredText:
        """Make a text young, so that no sweep takes it before an event names it.

        Raises ContentMissing and ContentCorrupt.
        """
        text = self.get(storage_id)
        self._write(LIVE, storage_id, text)
        return StoredText(storage_id, len(text), self._media_type(storage_id))

    def probe(self) -> None:
        """Ask the store for something; returns when it has answered."""
        with suppress(ContentMissing):
            self._read(LIVE, NEVER_STORED)

    def listed(self) -> Iterator[ListedText]:
        """Every text but those in the trash."""
        return self._listed(LIVE)

    def trashed(self) -> Iterator[ListedText]:
        """Every text in the trash."""
        return self._listed(TRASH)

    def trash(self, seen: ListedText) -> bool:
        """Move a text to the trash, unless it was renewed since it was seen; whether it was moved.

        For one sweep at a time, as are restore and erase.
        """
        text = self._read(LIVE, seen.storage_id)  # as it stands: damaged bytes are evidence
        self._write(TRASH, seen.storage_id, text)
        modified = self._modified(seen.storage_id)
        if modified is None or modified - seen.stored_at > ROUNDED_BY:
            return False  # the copy in the trash does no harm: it is erased in its time
        self._remove(LIVE, seen.storage_id)
        return True

    def restore(self, storage_id: str) -> None:
        """Move a text back from the trash; one that was stored anew is kept as it is."""
        text = self._read(TRASH, storage_id)
        if self._modified(storage_id) is None:
            self._write(LIVE, storage_id, text)
        self._remove(TRASH, storage_id)

    def erase(self, storage_id: str) -> None:
        """Erase a text from the trash, and its media type unless it was stored anew."""
        self._remove(TRASH, storage_id)
        if self._modified(storage_id) is None:
            self._remove(MEDIA, storage_id)

    def stored_at(self, storage_id: str) -> datetime | None:
        """When a text was last written; None for one that is in the trash at most."""
        return self._modified(_checked(storage_id))

    def has(self, storage_id: str) -> bool:
        """Whether a text is there, or in the trash."""
        return self._size(_checked(storage_id)) is not None

    def discard(self, storage_id: str) -> bool:
        """Erase a text for good, wherever it is; whether it was anywhere."""
        was_there = self.has(storage_id)
        for kind in (LIVE, TRASH, MEDIA):
            self._remove(kind, storage_id)
        return was_there

    def _anywhere(self, storage_id: str, ask: Callable[[str, str], T]) -> T:
        """Ask where the bytes are; they may be moved from one place to the other meanwhile."""
        for kind in (LIVE, TRASH):
            with suppress(ContentMissing):
                return ask(kind, storage_id)
        return ask(LIVE, storage_id)

    def _size(self, storage_id: str) -> int | None:
        with suppress(ContentMissing):
            return self._anywhere(storage_id, self._meta)[0]
        return None

    def _modified(self, storage_id: str) -> datetime | None:
        with suppress(ContentMissing):
            return self._meta(LIVE, storage_id)[1]
        return None

    def _meta(self, kind: str, storage_id: str) -> tuple[int, datetime]:
        path = _path(kind, storage_id)
        meta = _call("look", storage_id, lambda: obstore.head(self._store, path))
        return meta["size"], meta["last_modified"]

    def _read(self, kind: str, storage_id: str) -> bytes:
        path = _path(kind, storage_id)
        return _call("read", storage_id, lambda: bytes(obstore.get(self._store, path).bytes()))

    def _write(self, kind: str, storage_id: str, text: bytes) -> None:
        path = _path(kind, storage_id)
        try:  # a folder's object is written aside, then renamed
            _call("write", storage_id, lambda: obstore.put(self._store, path, text))
        except ContentMissing as fault:  # of the place itself: such as a bucket
            raise ContentFailed(
                "content store: there is no place to write to", storage_id
            ) from fault

    def _remove(self, kind: str, storage_id: str) -> None:
        path = _path(kind, storage_id)
        with suppress(ContentMissing):
            _call("remove", storage_id, lambda: obstore.delete(self._store, path))

    def _note(self, storage_id: str, media_type: str) -> None:
        path, noted = _path(MEDIA, storage_id), media_type.encode("latin-1")

        def note() -> None:
            with suppress(AlreadyExistsError):
                obstore.put(self._store, path, noted, mode="create")

        _call("write", storage_id, note)

    def _media_type(self, storage_id: str) -> str:
        with suppress(ContentMissing):
            return self._read(MEDIA, storage_id).decode("latin-1")
        return PLAIN_TEXT

    def _listed(self, kind: str) -> Iterator[ListedText]:
        batches = iter(obstore.list(self._store, kind))
        while (batch := _call("list", None, lambda: next(batches, None))) is not None:
            for meta in batch:
                storage_id = meta["path"].rpartition("/")[2]
                if SHA256.fullmatch(storage_id) and meta["path"] == _path(kind, storage_id):
                    yield ListedText(storage_id, meta["size"], meta["last_modified"])


def _checked(storage_id: str) -> str:
    if not SHA256.fullmatch(storage_id):
        raise Malformed("not a storage id: 64 lower-case hex digits")
    return storage_id


def _path(kind: str, storage_id: str) -> str:
    return f"{kind}/{_checked(storage_id)[:2]}/{storage_id}"


def _call(doing: str, storage_id: str | None, ask: Callable[[], T]) -> T:
    """What the store answers, its faults as ours."""
    try:
        return ask()
    except FAULTS as fault:
        raise _translated(doing, storage_id, fault) from fault


def _translated(doing: str, storage_id: str | None, fault: Exception) -> CJStreamError:
    text = str(fault)  # the library tells its kinds of network fault in words only
    if "NoSuchBucket" in text:
        return ContentFailed("content store: there is no such bucket", storage_id)
    if isinstance(fault, FileNotFoundError) and storage_id:
        return ContentMissing(storage_id)
    if "kind: Timeout" in text:
        return ContentTimeout(f"content store: no answer in time ({doing})")
    if "kind: Connect" in text or "kind: Request" in text:
        return ContentUnreachable(f"content store: nobody answers ({doing})")
    cause = CAUSE.search(text)
    told = cause[0].strip() if cause else type(fault).__name__
    return ContentFailed(f"content store: cannot {doing}: {told}", storage_id)
