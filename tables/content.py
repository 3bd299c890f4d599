"""The content store: texts by the sha256 of their bytes, behind one URL (a folder, S3, GCS, Azure).

The same bytes have the same id, so a retry is free, and what is read is checked against its id.
"""

import hashlib
from dataclasses import dataclass

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from schemas.errors import Discrepancy, Malformed, Misconfigured, Unreachable
from schemas.limits import SHA256

MAX_CONTENT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """A text in the store: its id, which is its sha256, and its size."""

    storage_id: str
    size_bytes: int


class ContentStore:
    """Texts by storage id. Blocking; one object per id, written once and never changed."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def at(cls, url: str) -> "ContentStore":
        """The store at a URL such as file:///srv/content, s3://bucket/prefix or memory:///.

        Raises Misconfigured.
        """
        try:
            if url.startswith("file:"):
                return cls(from_url(url, mkdir=True))
            return cls(from_url(url))
        except (BaseError, ValueError, TypeError) as fault:
            scheme = url.partition(":")[0][:20]
            raise Misconfigured(
                f"CJSTREAM_CONTENT_URL: no content store at this {scheme!r} URL ({type(fault).__name__})"
            ) from fault

    def put(self, text: bytes) -> Stored:
        """Store a text of 1 byte to 1 MiB. Raises Malformed for its size, Unreachable for the store."""
        if not 1 <= len(text) <= MAX_CONTENT_BYTES:
            raise Malformed(f"a text of {len(text)} bytes, allowed are 1 to {MAX_CONTENT_BYTES}")
        storage_id = hashlib.sha256(text).hexdigest()
        try:
            obstore.put(self._store, _path(storage_id), text)  # written aside, then renamed
        except (BaseError, OSError) as fault:
            raise Unreachable(f"content store refused a text: {type(fault).__name__}") from fault
        return Stored(storage_id, len(text))

    def get(self, storage_id: str) -> bytes:
        """The bytes of a text.

        Raises Malformed for what is no storage id, Discrepancy where the text is missing or damaged, and
        Unreachable for the store.
        """
        if not SHA256.fullmatch(storage_id):
            raise Malformed("not a storage id: 64 lower-case hex digits")
        try:
            text = bytes(obstore.get(self._store, _path(storage_id)).bytes())
        except FileNotFoundError as fault:
            raise Discrepancy(f"content {storage_id} is missing from the store") from fault
        except (BaseError, OSError) as fault:
            raise Unreachable(f"content store: {type(fault).__name__}") from fault
        if hashlib.sha256(text).hexdigest() != storage_id:
            raise Discrepancy(f"content {storage_id} is damaged: its bytes have another sha256")
        return text


def _path(storage_id: str) -> str:
    return f"sha256/{storage_id[:2]}/{storage_id}"
