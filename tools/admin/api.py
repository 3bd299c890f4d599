"""Calls to the admin API, with the first token that is available."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import CJStreamError
from tools.admin.client import ApiResponse, HttpClient, normalize_base_url, route
from tools.admin.dev_token import dev_token, is_development
from tools.admin.failures import Refused, Usage
from tools.admin.login import is_sendable, renew_token
from tools.admin.tokens import CachedToken, TokenCache
from tools.progress import say


@dataclass(frozen=True, slots=True)
class Credential:
    """A token and its source; `cached` is the cache entry that it was read from, if any."""

    token: str
    source: str
    cached: CachedToken | None = None


@dataclass(frozen=True, slots=True)
class AdminApi:
    """The admin API at one base URL, for one command."""

    base_url: str
    http: HttpClient
    cache: TokenCache
    environ: Mapping[str, str]

    @classmethod
    def from_environment(cls, base_url: str, timeout_s: float) -> "AdminApi":
        """The API at `base_url`, with the token settings of the environment. Raises Usage for a bad URL."""
        http = HttpClient(timeout_s)
        return cls(
            normalize_base_url(base_url),
            http,
            TokenCache.from_environment(os.environ, say),
            os.environ,
        )

    def call(
        self,
        operation: str,
        method: str,
        *parts: str,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        condition: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """The response of a route; after a 401, a cached token is renewed once. Raises Refused and NoAnswer."""
        credential = self.credential()

        def send(token: str) -> ApiResponse:
            headers = {"Authorization": f"Bearer {token}", **(condition or {})}
            url = self.base_url + route(*parts)
            return self.http.send(operation, method, url, body=body, query=query, headers=headers)

        try:
            return send(credential.token)
        except Refused as refusal:
            if refusal.status != 401 or credential.cached is None:
                raise
            renewed = self._renew(credential.cached)
            if renewed is None:
                raise
        return send(renewed.token)

    def credential(self) -> Credential:
        """The first token available: CJ_ADMIN_TOKEN, cached, renewed, development. Raises CJStreamError without one."""
        if token := self.environ.get("CJ_ADMIN_TOKEN", "").strip():
            if not is_sendable(token):
                raise Usage("CJ_ADMIN_TOKEN: contains characters that no token may contain")
            return Credential(token, "CJ_ADMIN_TOKEN")
        cached = self._cached()
        if cached is not None and cached.is_usable(time.time()):
            return Credential(cached.access_token, "cache", cached)
        if cached is not None and (renewed := self._renew(cached)):
            return renewed
        if is_development():
            return Credential(dev_token(), "development")
        raise CJStreamError("not signed in: run `cjstream admin login`, or set CJ_ADMIN_TOKEN")

    def _cached(self) -> CachedToken | None:
        """The cached token, if it is for this API and for the identity service of IDENTITY_BASE_URL, if that is set."""
        cached = self.cache.read()
        if cached is None or cached.base_url != self.base_url:
            return None
        identity_url = self.environ.get("IDENTITY_BASE_URL")
        if identity_url and cached.identity_url not in (None, normalize_base_url(identity_url)):
            return None
        return cached if is_sendable(cached.access_token) else None

    def _renew(self, old: CachedToken) -> Credential | None:
        token = renew_token(self.http, old, time.time())
        if token is None:
            return None
        self.cache.write(token)
        return Credential(token.access_token, "refresh")
