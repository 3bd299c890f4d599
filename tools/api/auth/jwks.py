"""A key set behind a URL (JWKS), kept for ten minutes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import jwt
from jwt import PyJWK

from tools.api.auth.authentication import KeysUnavailable, Unauthenticated

KEPT_S = 600
UNKNOWN_PAUSE_S = 30  # between two fetches that unknown key ids cause
FAILED_PAUSE_S = 5  # after a fetch that failed
FETCH_TIMEOUT_S = 5

log = logging.getLogger(__name__)
Document = Any


class KeySet:
    """The keys of a URL by their ids.

    Fetched when first needed, every ten minutes, and for an unknown key id, for which at most every 30 s.
    Where a fetch fails, the keys of the last good one stay in use.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Document]],
        fit: Callable[[PyJWK], Any],
        algorithm: str,
        now_s: Callable[[], float],
    ) -> None:
        """`fetch` gives the JWKS document, `fit` a key's public part or raises jwt.InvalidKeyError."""
        self._fetch, self._fit, self._algorithm, self._now_s = fetch, fit, algorithm, now_s
        self._keys: Mapping[str, Any] = {}
        self._lock = asyncio.Lock()  # however many ask: one fetch
        self._fresh_until_s = self._rest_until_s = self._next_unknown_s = float("-inf")

    async def key_for(self, kid: str | None) -> Any:
        """The key of that id. Raises Unauthenticated(unknown_key) and KeysUnavailable."""
        if kid is None:
            raise Unauthenticated("unknown_key")
        if self._is_fresh and kid in self._keys:  # nobody waits for another's unknown key
            return self._keys[kid]
        async with self._lock:
            fetched = await self._refreshed()
            may_ask = not fetched and self._now_s() >= self._next_unknown_s
            if kid not in self._keys and may_ask and await self._fetched():
                self._next_unknown_s = self._now_s() + UNKNOWN_PAUSE_S
        if not self._keys:
            raise KeysUnavailable(FAILED_PAUSE_S)
        if kid not in self._keys:
            raise Unauthenticated("unknown_key")
        return self._keys[kid]

    async def are_loaded(self) -> bool:
        """Whether there are keys, fetched now if need be."""
        async with self._lock:
            await self._refreshed()
        return bool(self._keys)

    @property
    def _is_fresh(self) -> bool:
        return self._now_s() < self._fresh_until_s

    async def _refreshed(self) -> bool:
        """Fetch what is missing or too old; whether a fetch was tried."""
        return not self._is_fresh and await self._fetched()

    async def _fetched(self) -> bool:
        """Fetch, unless the last try failed a moment ago; whether a fetch was tried."""
        if self._now_s() < self._rest_until_s:
            return False
        try:
            self._keys = self._usable(await self._fetch())
            self._fresh_until_s = self._now_s() + KEPT_S
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, jwt.PyJWTError) as fault:
            self._rest_until_s = self._now_s() + FAILED_PAUSE_S
            log.warning("signing keys not fetched", extra={"fault": type(fault).__name__})
        return True

    def _usable(self, document: Document) -> Mapping[str, Any]:
        """The signing keys that fit the algorithm. Raises ValueError where there is none."""
        listed = document.get("keys") if isinstance(document, dict) else None
        keys = {}
        for entry in listed if isinstance(listed, list) else []:
            if self._is_for_signing(entry):
                try:
                    keys[entry["kid"]] = self._fit(PyJWK(entry, self._algorithm))
                except jwt.PyJWTError:  # of another kind, or too weak: not for us
                    continue
        if not keys:
            raise ValueError("no usable key")
        return keys

    def _is_for_signing(self, entry: object) -> bool:
        return (
            isinstance(entry, dict)
            and isinstance(entry.get("kid"), str)
            and entry.get("use", "sig") == "sig"
            and entry.get("alg", self._algorithm) == self._algorithm
        )


async def fetched(url: str) -> Document:
    """The JSON document of a URL. Raises httpx.HTTPError and ValueError."""
    async with httpx.AsyncClient(timeout=FETCH_TIMEOUT_S) as client:
        answer = await client.get(url, headers={"Accept": "application/json"})
    return answer.raise_for_status().json()
