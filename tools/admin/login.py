"""The identity service: sign in and renew a token."""

from collections.abc import Mapping
from typing import Any

from tools.admin.client import ApiResponse, HttpClient, normalize_base_url
from tools.admin.failures import Refused
from tools.admin.tokens import CachedToken, expiry_of


def sign_in(
    http: HttpClient, identity_url: str, base_url: str, *, email: str, password: str, now_s: float
) -> CachedToken:
    """Sign in and return a token for the API at base_url. Raises Refused and NoAnswer."""
    identity = normalize_base_url(identity_url)
    response = http.send(
        "login", "POST", f"{identity}/login", body={"email": email, "password": password}
    )
    return _token(http, response, base_url, identity, refresh_token=None, now_s=now_s)


def renew_token(http: HttpClient, old: CachedToken, now_s: float) -> CachedToken | None:
    """A new token for the old one's refresh token; None if it has none. Raises Refused and NoAnswer."""
    if old.refresh_token is None or old.identity_url is None:
        return None
    response = http.send(
        "renew the token (or sign in again: `cjstream admin login`)",
        "POST",
        f"{old.identity_url}/refresh",
        body={"refresh_token": old.refresh_token},
    )
    return _token(http, response, old.base_url, old.identity_url, old.refresh_token, now_s)


def _token(
    http: HttpClient,
    response: ApiResponse,
    base_url: str,
    identity_url: str,
    refresh_token: str | None,
    now_s: float,
) -> CachedToken:
    document: Mapping[str, Any] = response.document if isinstance(response.document, dict) else {}
    token = document.get("access_token")
    if not isinstance(token, str) or not is_sendable(token):
        problem = {"title": "no access_token", "detail": f"in the response of {identity_url}"}
        raise Refused("sign-in", response.status, problem, http.correlation_id)
    renewed = document.get("refresh_token")
    return CachedToken(
        access_token=token,
        expires_at_s=expiry_of(token, document.get("expires_in"), now_s),
        base_url=base_url,
        identity_url=identity_url,
        refresh_token=renewed if isinstance(renewed, str) and renewed else refresh_token,
    )


def is_sendable(token: str) -> bool:
    """Whether the token can be sent in a header."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token
