"""A key set behind a URL (JWKS), cached for ten minutes."""

import asyncio
import json
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

from processors.http_clients import async_http_client
from tools.api.auth.authentication import KeysUnavailable, Unauthenticated

MAX_AGE_S = 600
UNKNOWN_KEY_PAUSE_S = 30  # between two fetches for unknown key ids
FAILED_PAUSE_S = 5  # after a failed fetch
FETCH_TIMEOUT_S = 5
MAX_DOCUMENT_BYTES = 1024 * 1024
PUBLIC_KEYS = {"RS256": RSAPublicKey, "ES256": EllipticCurvePublicKey}

NOT_FETCHED = "the signing keys cannot be fetched"
WITHOUT_ID = None  # the only key of a set may have no id: it is for every token

log = logging.getLogger(__name__)
Document = Any


class Unusable(ValueError):
    """A key set that was fetched, but has no key that verifies tokens."""


class KeySet:
    """The keys of a URL by their ids.

    They are fetched on first use, then every ten minutes in the background, and for an unknown key id (at most every
    30 s). Only a request whose key is unknown waits for a fetch. If a fetch fails, the keys of the last successful
    one stay in use.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Document]],
        algorithm: str,
        now_s: Callable[[], float],
        *,
        max_age_s: float = MAX_AGE_S,
        timeout_s: float = FETCH_TIMEOUT_S,
    ) -> None:
        """`fetch` returns the JWKS document, `now_s` monotonic seconds; `timeout_s` is for a whole fetch."""
        self._fetch, self._algorithm, self._now_s = fetch, algorithm, now_s
        self._max_age_s, self._timeout_s = max_age_s, timeout_s
        self._keys: Mapping[str | None, Any] = {}
        self._failure = NOT_FETCHED  # why there are none
        self._fetching: asyncio.Task[None] | None = None  # concurrent callers share one fetch
        self._next_fetch: asyncio.TimerHandle | None = None
        self._fresh_until_s = self._no_fetch_until_s = self._unknown_keys_after_s = float("-inf")

    async def key_for(self, kid: str | None) -> Any:
        """The key with this id, or the only key if it has none.

        Raises Unauthenticated(unknown_key) and KeysUnavailable.
        """
        if not self._keys:
            await self.are_loaded()
        elif kid is not None and self._keys.keys().isdisjoint((kid, WITHOUT_ID)):
            await self._look_for_new_keys()
        elif self._now_s() >= self._fresh_until_s:
            self._fetch_in_background()
        if not self._keys:
            raise KeysUnavailable(self._failure)
        if WITHOUT_ID in self._keys:
            kid = WITHOUT_ID
        if kid not in self._keys:
            raise Unauthenticated("unknown_key")
        return self._keys[kid]

    async def are_loaded(self) -> bool:
        """Whether there are keys; missing ones are fetched first."""
        if not self._keys:
            await self._fetched()
        return bool(self._keys)

    async def _look_for_new_keys(self) -> None:
        """Fetch because of an unknown key id, unless that was done recently."""
        if self._fetching is None:
            if self._now_s() < self._unknown_keys_after_s:
                return
            self._unknown_keys_after_s = self._now_s() + UNKNOWN_KEY_PAUSE_S
        await self._fetched()

    async def _fetched(self) -> None:
        """Wait for the end of a fetch, started now if none is running; a caller that gives up does not end it."""
        self._fetch_in_background()
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def _fetch_in_background(self) -> None:
        """Start a fetch, unless one is running or the last one has just failed."""
        if self._fetching is None and self._now_s() >= self._no_fetch_until_s:
            self._fetching = asyncio.create_task(self._fetch_keys())

    async def _fetch_keys(self) -> None:
        try:
            document = await asyncio.wait_for(self._fetch(), self._timeout_s)
            self._keys = self._usable(document)
            self._fresh_until_s = self._now_s() + self._max_age_s
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            ValueError,
            jwt.PyJWTError,
            TimeoutError,
        ) as fault:
            self._no_fetch_until_s = self._now_s() + FAILED_PAUSE_S
            self._failure = str(fault) if isinstance(fault, Unusable) else NOT_FETCHED
            fields = {"fault": type(fault).__name__, "reason": self._failure}
            log.warning("signing keys not fetched", extra=fields)
        finally:
            self._fetching = None
            self._fetch_again_later()

    def _fetch_again_later(self) -> None:
        """Renew the keys without a request, too: else the first one after a long pause would meet withdrawn keys."""
        if self._next_fetch is not None:
            self._next_fetch.cancel()
        if self._keys:
            loop = asyncio.get_running_loop()
            self._next_fetch = loop.call_later(self._max_age_s, self._fetch_in_background)

    def _usable(self, document: Document) -> Mapping[str | None, Any]:
        """The signing keys for the algorithm, by their ids. Raises ValueError if there is none."""
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise Unusable("what was fetched is not a key set (JWKS)")
        keys = list[tuple[str | None, Any]]()
        for entry in listed:
            if self._is_for_signing(entry):
                with suppress(jwt.PyJWTError):  # of another type, or too weak
                    key = PyJWK(entry, self._algorithm).key
                    prepared = prepare_public_key(self._algorithm, key)
                    keys.append((entry.get("kid", WITHOUT_ID), prepared))
        if len(keys) > 1:  # a token could not say which of them it means
            keys = [(kid, key) for kid, key in keys if kid is not WITHOUT_ID]
        if not keys:
            raise Unusable(
                f"none of the {len(listed)} keys that were fetched can be used: one must be for {self._algorithm}, for"
                " signatures, long enough, and have a kid unless it is the only one"
            )
        return dict(keys)

    def _is_for_signing(self, entry: object) -> bool:
        return (
            isinstance(entry, dict)
            and isinstance(entry.get("kid", WITHOUT_ID), str | None)
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
    accept = {"Accept": "application/json"}
    async with (
        async_http_client(url, timeout=FETCH_TIMEOUT_S) as client,
        client.stream("GET", url, headers=accept) as response,
    ):
        response.raise_for_status()
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MAX_DOCUMENT_BYTES:
                raise ValueError("the key set is too large")
    return json.loads(body)
