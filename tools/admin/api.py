"""The admin API as a command sees it: calls with whatever token there is."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import CJStreamError
from tools.admin.client import ApiResponse, HttpClient, root_of, route
from tools.admin.dev_token import dev_token, is_development
from tools.admin.failures import Refused, Usage
from tools.admin.login import is_sendable, renewed
from tools.admin.tokens import CachedToken, TokenCache
from tools.progress import say


@dataclass(frozen=True, slots=True)
class Credential:
    """A token and where it comes from; cached is set where it can be renewed."""

    token: str
    source: str
    cached: CachedToken | None = None


@dataclass(frozen=True, slots=True)
class AdminApi:
    """One API, for the length of one command."""

    base_url: str
    http: HttpClient
    cache: TokenCache
    environ: Mapping[str, str]

    @classmethod
    def at(cls, base_url: str, timeout_s: float) -> "AdminApi":
        """The API at that address. Raises Usage where it is none."""
        http = HttpClient(timeout_s)
        return cls(root_of(base_url), http, TokenCache.of(os.environ, say), os.environ)

    def call(
        self,
        what: str,
        method: str,
        *parts: str,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        condition: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """The answer of a route; after a 401 a cached token is renewed once. Raises Refused and NoAnswer."""
        credential = self.credential()

        def send(token: str) -> ApiResponse:
            headers = {"Authorization": f"Bearer {token}", **(condition or {})}
            url = self.base_url + route(*parts)
            return self.http.send(what, method, url, body=body, query=query, headers=headers)

        try:
            return send(credential.token)
        except Refused as refusal:
            if refusal.status != 401 or credential.cached is None:
                raise
            newer = self._renewed(credential.cached)
            if newer is None:
                raise
        return send(newer.token)

    def credential(self) -> Credential:
        """The first token there is: given, cached, renewed, of development. Raises CJStreamError without one."""
        if given := self.environ.get("CJ_ADMIN_TOKEN", "").strip():
            if not is_sendable(given):
                raise Usage("CJ_ADMIN_TOKEN: no token, there are characters in it that none has")
            return Credential(given, "CJ_ADMIN_TOKEN")
        cached = self._cached()
        if cached is not None and cached.lasts(time.time()):
            return Credential(cached.access_token, "cache", cached)
        if cached is not None and (newer := self._renewed(cached)):
            return newer
        if is_development():
            return Credential(dev_token(), "development")
        raise CJStreamError("not signed in: `cjstream admin login`, or set CJ_ADMIN_TOKEN")

    def _cached(self) -> CachedToken | None:
        """The cached token, if it is for this API and of the identity service that is named, if one is."""
        cached = self.cache.read()
        if cached is None or cached.base_url != self.base_url:
            return None
        named = self.environ.get("IDENTITY_BASE_URL")
        if named and cached.identity_url not in (None, root_of(named)):
            return None
        return cached if is_sendable(cached.access_token) else None

    def _renewed(self, old: CachedToken) -> Credential | None:
        newer = renewed(self.http, old, time.time())
        if newer is None:
            return None
        self.cache.write(newer)
        return Credential(newer.access_token, "refresh")
