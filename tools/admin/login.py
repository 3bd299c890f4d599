"""The identity service: signing in and renewing a token."""

from collections.abc import Mapping
from typing import Any

from tools.admin.client import ApiResponse, HttpClient, root_of
from tools.admin.failures import Refused
from tools.admin.tokens import CachedToken, expiry_of


def sign_in(
    http: HttpClient, identity_url: str, base_url: str, *, email: str, password: str, now_s: float
) -> CachedToken:
    """A new token for the API at base_url. Raises Refused and NoAnswer."""
    identity = root_of(identity_url)
    answer = http.send(
        "login", "POST", f"{identity}/login", body={"email": email, "password": password}
    )
    return _token(http, answer, base_url, identity, refresh_token=None, now_s=now_s)


def renewed(http: HttpClient, old: CachedToken, now_s: float) -> CachedToken | None:
    """The token that follows an old one; None where there is no refresh token. Raises Refused and NoAnswer."""
    if old.refresh_token is None or old.identity_url is None:
        return None
    answer = http.send(
        "renewing the token (`cjstream admin login` signs in anew)",
        "POST",
        f"{old.identity_url}/refresh",
        body={"refresh_token": old.refresh_token},
    )
    return _token(http, answer, old.base_url, old.identity_url, old.refresh_token, now_s)


def _token(
    http: HttpClient,
    answer: ApiResponse,
    base_url: str,
    identity_url: str,
    refresh_token: str | None,
    now_s: float,
) -> CachedToken:
    reply: Mapping[str, Any] = answer.document if isinstance(answer.document, dict) else {}
    token = reply.get("access_token")
    if not isinstance(token, str) or not is_sendable(token):
        told = {"title": "no access_token", "detail": f"in the answer of {identity_url}"}
        raise Refused("sign-in", answer.status, told, http.correlation_id)
    newer = reply.get("refresh_token")
    return CachedToken(
        access_token=token,
        expires_at_s=expiry_of(token, reply.get("expires_in"), now_s),
        base_url=base_url,
        identity_url=identity_url,
        refresh_token=newer if isinstance(newer, str) and newer else refresh_token,
    )


def is_sendable(token: str) -> bool:
    """Whether it can stand in a header."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token
