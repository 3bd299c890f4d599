"""Stores the texts of a run, ten at a time and each once; what is known to be stored is proven, not sent."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

from tools.admin.files import replace
from tools.progress import counted
from tools.runner.content_client import ContentClient

AT_A_TIME = 10
MAX_KNOWN = 100_000  # ids in the cache file, of one store


@dataclass(frozen=True, slots=True)
class UploadCounts:
    """How many texts were sent, and how many were in the store already."""

    sent: int
    known: int


class ChecksumCache:
    """The ids that a content store had, by its URL, in a file; a damaged file counts as empty."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self, url: str) -> frozenset[str]:
        """The ids that this store is known to have had."""
        return frozenset(self._read().get(url, ()))

    def add(self, url: str, storage_ids: Iterable[str]) -> None:
        """Remember ids. Raises OSError."""
        stores = self._read()
        ids = list(dict.fromkeys([*stores.get(url, ()), *storage_ids]))[-MAX_KNOWN:]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace(self._path, orjson.dumps({**stores, url: ids}), 0o600)

    def _read(self) -> dict[str, list[str]]:
        try:
            document = orjson.loads(self._path.read_bytes())
            return {str(url): [str(one) for one in ids] for url, ids in document.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}


def upload_texts(
    contents: Mapping[str, bytes],
    client: ContentClient,
    cache: ChecksumCache,
    *,
    known: Iterable[str] = (),
    force: bool = False,
) -> UploadCounts:
    """Store texts, given by their storage ids. `force`: send also what is known. Raises CJStreamError.

    What is known, from the cache or from the caller, is asked for with HEAD, and sent if the store lacks it. The first
    text that cannot be stored ends it; those before stay stored and known.
    """
    believed = frozenset() if force else cache.known(client.url) | frozenset(known)

    def store(storage_id: str) -> Literal["sent", "known"]:
        if storage_id in believed and client.has(storage_id):
            return "known"
        client.store(contents[storage_id])
        return "sent"

    done = dict[str, str]()
    with ThreadPoolExecutor(AT_A_TIME) as pool, counted("texts", len(contents)) as count:
        futures = {pool.submit(store, storage_id): storage_id for storage_id in contents}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                count(1)
        finally:
            pool.shutdown(cancel_futures=True)
            done |= {
                one: future.result()
                for future, one in futures.items()
                if future.done() and not future.cancelled() and future.exception() is None
            }
            cache.add(client.url, done)
    return UploadCounts(*(sum(how == kind for how in done.values()) for kind in ("sent", "known")))
