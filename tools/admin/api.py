"""Calls to the admin API, with the first token that is available."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from processors.http_clients import http_client
from schemas.errors import CJStreamError
from tools.admin.client import ApiResponse, HttpClient, normalize_base_url, route
from tools.admin.dev_token import dev_token, is_development
from tools.admin.failures import Refused, Usage
from tools.admin.output import show_pairs
from tools.admin.tokens import CachedToken, TokenCache, expiry_of, is_sendable
from tools.printing import print_json
from tools.progress import say


@dataclass(frozen=True, slots=True)
class Credential:
    """A token and its source; `cached` is the cache entry that it was read from, if any."""

    token: str
    source: str
    cached: CachedToken | None = None


@dataclass(frozen=True, slots=True)
class AdminApi:
    """The admin API at one base URL, for one command; `as_json`: how the command prints its result."""

    base_url: str
    as_json: bool
    http: HttpClient
    cache: TokenCache
    environ: Mapping[str, str]

    @classmethod
    def from_environment(cls, base_url: str, timeout_s: float, *, as_json: bool) -> "AdminApi":
        """The API at `base_url`, with the token settings of the environment. Raises Usage for a bad URL."""
        cache = TokenCache.from_environment(os.environ, say)
        return cls(normalize_base_url(base_url), as_json, HttpClient(timeout_s), cache, os.environ)

    @contextmanager
    def connected(self) -> Iterator["AdminApi"]:
        """The same API with connections that stay open between calls, which threads may make at the same time."""
        with http_client(self.base_url) as client:
            yield replace(self, http=replace(self.http, client=client))

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

    def show(self, response: ApiResponse, title: str, fields: Sequence[str]) -> None:
        """Print the document of a response, or some of its fields."""
        if response.status == 202:
            say(
                "committed, but not yet folded: for a moment, a read may still return the old state"
            )
        if self.as_json:
            print_json(response.document)
        else:
            show_pairs(title, {name: response.document.get(name) for name in fields})

    def sign_in(self, identity_url: str, email: str, password: str) -> CachedToken:
        """Sign in and return a token for this API. Raises Refused and NoAnswer."""
        identity = normalize_base_url(identity_url)
        body = {"email": email, "password": password}
        response = self.http.send("login", "POST", f"{identity}/login", body=body)
        return self._token(response, identity, refresh_token=None)

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
        """A new token for the old one's refresh token; None if it has none. Raises Refused and NoAnswer."""
        if old.refresh_token is None or old.identity_url is None:
            return None
        response = self.http.send(
            "renew the token (or sign in again: `cjstream admin login`)",
            "POST",
            f"{old.identity_url}/refresh",
            body={"refresh_token": old.refresh_token},
        )
        token = self._token(response, old.identity_url, old.refresh_token)
        self.cache.write(token)
        return Credential(token.access_token, "refresh")

    def _token(
        self, response: ApiResponse, identity_url: str, refresh_token: str | None
    ) -> CachedToken:
        """The token in a response of the identity service. Raises Refused."""
        document: Mapping[str, Any] = (
            response.document if isinstance(response.document, dict) else {}
        )
        token = document.get("access_token")
        if not isinstance(token, str) or not is_sendable(token):
            problem = {"title": "no access_token", "detail": f"in the response of {identity_url}"}
            raise Refused("sign-in", response.status, problem, self.http.correlation_id)
        renewed = document.get("refresh_token")
        return CachedToken(
            access_token=token,
            expires_at_s=expiry_of(token, document.get("expires_in"), time.time()),
            base_url=self.base_url,
            identity_url=identity_url,
            refresh_token=renewed if isinstance(renewed, str) and renewed else refresh_token,
        )
