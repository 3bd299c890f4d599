"""The content store: texts by the sha256 of their bytes, at one URL (a folder, S3, GCS, Azure).

The same bytes have the same id, so a retry does no harm, and bytes are checked against their id when they are read.

  sha256/<2 digits>/<id>   the bytes
  trash/<2 digits>/<id>    bytes that the sweep moved to the trash; they can still be read
  media/<2 digits>/<id>    the media type if it is not plain text; an object, because folders store no attributes
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

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
from tables.content_location import ContentLocation

if TYPE_CHECKING:
    from obstore.store import RetryConfig

MAX_CONTENT_BYTES = 1024 * 1024
PLAIN_TEXT = "text/plain; charset=utf-8"
RETRY: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
# some stores list times in milliseconds, but HEAD gives whole seconds
ROUNDING = timedelta(seconds=1)
LIVE, TRASH, MEDIA = "sha256", "trash", "media"
NEVER_STORED = hashlib.sha256().hexdigest()  # the id of the empty text, which put refuses
STORE_ERRORS = (BaseError, OSError, NotImplementedError)
CAUSE = re.compile(r"HTTP error: [^:\n]+|[^:\n]+ \(os error \d+\)|status code: \d+[^:\n]*")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredText:
    """A stored text: its id, which is its sha256, and its size; existed says whether it was there before put."""

    storage_id: str
    size_bytes: int
    media_type: str = PLAIN_TEXT
    existed: bool = True


@dataclass(frozen=True, slots=True)
class ListedText:
    """A text in a listing; stored_at is when its object was last written."""

    storage_id: str
    size_bytes: int
    stored_at: datetime


class ContentStore:
    """Texts by storage id, each an object that never changes; all methods block.

    Every method raises ContentUnreachable, ContentTimeout or ContentFailed if the store fails, and Malformed for an
    invalid storage id.
    """

    def __init__(
        self, store: ObjectStore, max_bytes: int = MAX_CONTENT_BYTES, folder: Path | None = None
    ) -> None:
        """`folder` is where a local store has its files: nobody else may read them."""
        self._store = store
        self._max_bytes = max_bytes
        self._folder = folder

    @classmethod
    def open(cls, location: ContentLocation, max_bytes: int = MAX_CONTENT_BYTES) -> "ContentStore":
        """Open the store at a URL such as file:///srv/content, s3://bucket/prefix or memory:///.

        What the location leaves open of credentials, endpoint and other options of a remote store comes from the
        environment (AWS_…, GOOGLE_…, AZURE_…); a failed request is retried twice. Raises Misconfigured.
        """
        url, options = location.url, dict[str, Any](location.options)
        try:
            if url.startswith("file:"):
                folder = Path(unquote(urlsplit(url).path))
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                return cls(from_url(url), max_bytes, folder)
            # without need no client_options: passing any hides those of the environment, such as AWS_ALLOW_HTTP
            if options.get("endpoint", "").startswith("http:"):
                options["client_options"] = {"allow_http": True}
            return cls(from_url(url, retry_config=RETRY, **options), max_bytes)
        except (BaseError, ValueError, TypeError, OSError) as fault:
            scheme, why = url.partition(":")[0][:20], type(fault).__name__
            if (
                isinstance(fault, OSError) and fault.filename
            ):  # of the folder; a URL may have a password
                why = f"{fault.filename}: {fault.strerror}"
            raise Misconfigured(
                f"CJSTREAM_CONTENT_URL: cannot open a content store at this {scheme!r} URL ({why})"
            ) from fault

    def put(self, text: bytes, media_type: str = PLAIN_TEXT) -> StoredText:
        """Store a text; if it exists, reset its age. The first media type of a text stays.

        Raises Malformed if the text is empty or too long.
        """
        if not 1 <= len(text) <= self._max_bytes:
            raise Malformed(
                f"a text of {len(text)} bytes; 1 to {self._max_bytes} bytes are allowed"
            )
        storage_id = hashlib.sha256(text).hexdigest()
        existed = self._size(storage_id) is not None
        if not existed and media_type != PLAIN_TEXT:
            # before the bytes: the text exists once its bytes do
            self._write_media_type(storage_id, media_type)
        self._write(LIVE, storage_id, text)  # always: this repairs a damaged text
        return StoredText(storage_id, len(text), self._media_type(storage_id), existed)

    def get(self, storage_id: str) -> bytes:
        """The bytes of a text. Raises ContentMissing and ContentCorrupt."""
        text = self._from_live_or_trash(storage_id, self._read)
        if hashlib.sha256(text).hexdigest() != storage_id:
            raise ContentCorrupt(storage_id)
        return text

    def head(self, storage_id: str) -> StoredText:
        """Size and media type of a text, without reading it. Raises ContentMissing."""
        size = self._size(_valid_id(storage_id))
        if size is None:
            raise ContentMissing(storage_id)
        return StoredText(storage_id, size, self._media_type(storage_id))

    def renew(self, storage_id: str) -> StoredText:
        """Reset the age of a text, so that the sweep does not remove it before an event names it.

        Raises ContentMissing and ContentCorrupt.
        """
        text = self.get(storage_id)
        self._write(LIVE, storage_id, text)
        return StoredText(storage_id, len(text), self._media_type(storage_id))

    def probe(self) -> None:
        """Send one read to the store; returns when the store has answered."""
        with suppress(ContentMissing):
            self._read(LIVE, NEVER_STORED)

    def list_texts(self) -> Iterator[ListedText]:
        """Every text that is not in the trash."""
        return self._list(LIVE)

    def list_trash(self) -> Iterator[ListedText]:
        """Every text in the trash."""
        return self._list(TRASH)

    def trash(self, listed: ListedText) -> bool:
        """Move a listed text to the trash unless it was renewed since; returns whether it was moved.

        Only one process at a time may call trash, restore and erase.
        """
        text = self._read(LIVE, listed.storage_id)  # without a check: damaged bytes are evidence
        self._write(TRASH, listed.storage_id, text)
        modified = self._modified_at(listed.storage_id)
        if modified is None or modified - listed.stored_at > ROUNDING:
            return False  # the copy in the trash does no harm; the sweep erases it later
        self._delete(LIVE, listed.storage_id)
        return True

    def restore(self, storage_id: str) -> None:
        """Move a text back from the trash; if it was stored again meanwhile, only remove it from the trash."""
        text = self._read(TRASH, storage_id)
        if self._modified_at(storage_id) is None:
            self._write(LIVE, storage_id, text)
        self._delete(TRASH, storage_id)

    def erase(self, storage_id: str) -> None:
        """Erase a text from the trash, and its media type unless the text was stored again."""
        self._delete(TRASH, storage_id)
        if self._modified_at(storage_id) is None:
            self._delete(MEDIA, storage_id)

    def stored_at(self, storage_id: str) -> datetime | None:
        """When a text was last written; None if it is only in the trash or nowhere."""
        return self._modified_at(_valid_id(storage_id))

    def has(self, storage_id: str) -> bool:
        """Whether a text exists, in the trash or outside."""
        return self._size(_valid_id(storage_id)) is not None

    def discard(self, storage_id: str) -> bool:
        """Erase a text and its media type, also from the trash; returns whether the text existed."""
        was_there = self.has(storage_id)
        for kind in (LIVE, TRASH, MEDIA):
            self._delete(kind, storage_id)
        return was_there

    def _from_live_or_trash(self, storage_id: str, operation: Callable[[str, str], T]) -> T:
        """Try the live object, the trash, then the live object again: the bytes may be moved meanwhile."""
        for kind in (LIVE, TRASH):
            with suppress(ContentMissing):
                return operation(kind, storage_id)
        return operation(LIVE, storage_id)

    def _size(self, storage_id: str) -> int | None:
        with suppress(ContentMissing):
            return self._from_live_or_trash(storage_id, self._size_and_time)[0]
        return None

    def _modified_at(self, storage_id: str) -> datetime | None:
        with suppress(ContentMissing):
            return self._size_and_time(LIVE, storage_id)[1]
        return None

    def _size_and_time(self, kind: str, storage_id: str) -> tuple[int, datetime]:
        path = _path(kind, storage_id)
        meta = self._find("look", storage_id, lambda: obstore.head(self._store, path))
        return meta["size"], meta["last_modified"]

    def _read(self, kind: str, storage_id: str) -> bytes:
        path = _path(kind, storage_id)
        return self._find("read", storage_id, lambda: bytes(obstore.get(self._store, path).bytes()))

    def _find(self, action: str, storage_id: str, operation: Callable[[], T]) -> T:
        """Call the store; a text is missing only if the folder of all texts is there."""
        try:
            return _call(action, storage_id, operation)
        except ContentMissing as fault:
            if self._folder is None or self._folder.is_dir():
                raise
            raise ContentUnreachable("content store: its folder is gone: mount it again") from fault

    def _write(self, kind: str, storage_id: str, text: bytes) -> None:
        path = _path(kind, storage_id)
        try:  # in a folder, obstore writes a temporary file and renames it
            _call("write", storage_id, lambda: obstore.put(self._store, path, text))
            if self._folder is not None:
                (self._folder / path).chmod(0o600)
        except ContentMissing as fault:  # the place itself is missing, such as a bucket
            raise ContentFailed(
                "content store: there is no such folder or bucket to write to", storage_id
            ) from fault
        except ContentFailed as fault:  # such as a full disk
            raise ContentFailed(fault.message, storage_id, self._folder) from fault

    def _delete(self, kind: str, storage_id: str) -> None:
        path = _path(kind, storage_id)
        with suppress(ContentMissing):
            _call("remove", storage_id, lambda: obstore.delete(self._store, path))

    def _write_media_type(self, storage_id: str, media_type: str) -> None:
        path, encoded = _path(MEDIA, storage_id), media_type.encode("latin-1")

        def write() -> None:
            with suppress(AlreadyExistsError):
                obstore.put(self._store, path, encoded, mode="create")

        _call("write", storage_id, write)

    def _media_type(self, storage_id: str) -> str:
        with suppress(ContentMissing):
            return self._read(MEDIA, storage_id).decode("latin-1")
        return PLAIN_TEXT

    def _list(self, kind: str) -> Iterator[ListedText]:
        batches = iter(obstore.list(self._store, kind))
        while (batch := _call("list", None, lambda: next(batches, None))) is not None:
            for meta in batch:
                storage_id = meta["path"].rpartition("/")[2]
                if SHA256.fullmatch(storage_id) and meta["path"] == _path(kind, storage_id):
                    yield ListedText(storage_id, meta["size"], meta["last_modified"])


def _valid_id(storage_id: str) -> str:
    if not SHA256.fullmatch(storage_id):
        raise Malformed("not a storage id: expected 64 lower-case hex digits")
    return storage_id


def _path(kind: str, storage_id: str) -> str:
    return f"{kind}/{_valid_id(storage_id)[:2]}/{storage_id}"


def _call(action: str, storage_id: str | None, operation: Callable[[], T]) -> T:
    """Call the store and translate its exceptions."""
    try:
        return operation()
    except STORE_ERRORS as fault:
        raise _translated(action, storage_id, fault) from fault


def _translated(action: str, storage_id: str | None, fault: Exception) -> CJStreamError:
    text = str(fault)  # obstore names the kind of a network error only in its message
    if "NoSuchBucket" in text:
        return ContentFailed("content store: there is no such bucket", storage_id)
    if isinstance(fault, FileNotFoundError) and storage_id:
        return ContentMissing(storage_id)
    if "kind: Timeout" in text:
        return ContentTimeout(f"content store: no response in time ({action})")
    if "InvalidCertificate" in text or "CertificateRequired" in text:
        return ContentUnreachable(
            "content store: TLS refused: SSL_CERT_FILE must name the certificates that sign the server's"
        )
    if "kind: Connect" in text or "kind: Request" in text:
        return ContentUnreachable(f"content store: unreachable ({action})")
    cause = CAUSE.search(text)
    reason = cause[0].strip() if cause else type(fault).__name__
    return ContentFailed(f"content store: cannot {action}: {reason}", storage_id)
