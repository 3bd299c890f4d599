"""A key set behind a URL (JWKS), cached for ten minutes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.algorithms import get_default_algorithms

from tools.api.auth.authentication import KeysUnavailable, Unauthenticated

MAX_AGE_S = 600
UNKNOWN_KEY_PAUSE_S = 30  # between two fetches for unknown key ids
FAILED_PAUSE_S = 5  # after a failed fetch
FETCH_TIMEOUT_S = 5
PUBLIC_KEYS = {"RS256": RSAPublicKey, "ES256": EllipticCurvePublicKey}

log = logging.getLogger(__name__)
Document = Any


class KeySet:
    """The keys of a URL by their ids.

    They are fetched on first use, every ten minutes, and for an unknown key id (at most every 30 s).
    If a fetch fails, the keys of the last successful fetch stay in use.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[Document]], algorithm: str, now_s: Callable[[], float]
    ) -> None:
        """`fetch` returns the JWKS document, `now_s` monotonic seconds."""
        self._fetch, self._algorithm, self._now_s = fetch, algorithm, now_s
        self._keys: Mapping[str, Any] = {}
        self._lock = asyncio.Lock()  # concurrent callers share one fetch
        self._fresh_until_s = self._no_fetch_until_s = self._unknown_keys_after_s = float("-inf")

    async def key_for(self, kid: str | None) -> Any:
        """The key with this id. Raises Unauthenticated(unknown_key) and KeysUnavailable."""
        if kid is None:
            raise Unauthenticated("unknown_key")
        if self._is_fresh and kid in self._keys:  # does not wait for the fetch of an unknown key
            return self._keys[kid]
        async with self._lock:
            attempted = await self._refresh()
            may_fetch = not attempted and self._now_s() >= self._unknown_keys_after_s
            if kid not in self._keys and may_fetch and await self._try_fetch():
                self._unknown_keys_after_s = self._now_s() + UNKNOWN_KEY_PAUSE_S
        if not self._keys:
            raise KeysUnavailable()
        if kid not in self._keys:
            raise Unauthenticated("unknown_key")
        return self._keys[kid]

    async def are_loaded(self) -> bool:
        """Whether there are keys; missing ones are fetched first."""
        async with self._lock:
            await self._refresh()
        return bool(self._keys)

    @property
    def _is_fresh(self) -> bool:
        return self._now_s() < self._fresh_until_s

    async def _refresh(self) -> bool:
        """Fetch keys that are missing or too old; returns whether a fetch was attempted."""
        return not self._is_fresh and await self._try_fetch()

    async def _try_fetch(self) -> bool:
        """Fetch, unless the last attempt has just failed; returns whether a fetch was attempted."""
        if self._now_s() < self._no_fetch_until_s:
            return False
        try:
            self._keys = self._usable(await self._fetch())
            self._fresh_until_s = self._now_s() + MAX_AGE_S
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, jwt.PyJWTError) as fault:
            self._no_fetch_until_s = self._now_s() + FAILED_PAUSE_S
            log.warning("signing keys not fetched", extra={"fault": type(fault).__name__})
        return True

    def _usable(self, document: Document) -> Mapping[str, Any]:
        """The signing keys for the algorithm, by their ids. Raises ValueError if there is none."""
        listed = document.get("keys") if isinstance(document, dict) else None
        keys = {}
        for entry in listed if isinstance(listed, list) else []:
            if self._is_for_signing(entry):
                with suppress(jwt.PyJWTError):  # of another type, or too weak
                    key = PyJWK(entry, self._algorithm).key
                    keys[entry["kid"]] = prepare_public_key(self._algorithm, key)
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


def prepare_public_key(algorithm: str, key: Any) -> Any:
    """The public key, prepared by PyJWT for this algorithm; raises the libraries' errors if it is unsuitable."""
    signing_algorithm = get_default_algorithms()[algorithm]
    prepared = signing_algorithm.prepare_key(key)
    if not isinstance(prepared, PUBLIC_KEYS[algorithm]):
        raise jwt.InvalidKeyError("not a public key")
    if weakness := signing_algorithm.check_key_length(prepared):
        raise jwt.InvalidKeyError(weakness)
    return prepared


async def fetch_json(url: str) -> Document:
    """The JSON document of a URL. Raises httpx.HTTPError and ValueError."""
    async with httpx.AsyncClient(timeout=FETCH_TIMEOUT_S) as client:
        response = await client.get(url, headers={"Accept": "application/json"})
    return response.raise_for_status().json()
