"""The JWT_… settings and their verifier; keys that cannot be trusted are refused at startup."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import get_default_algorithms
from pydantic import Field, HttpUrl, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from processors.http_clients import http_client
from processors.setting_sources import settings_of
from schemas.errors import Misconfigured
from tools.api.auth.authentication import READERS, SigningKeys, Verifier
from tools.api.auth.jwks import KeySet, fetch_json, prepare_public_key

MIN_SECRET_BYTES = 32
DEV_SECRET = "cjstream development secret, known to everybody"
SOURCES = ("secret_key", "public_key", "public_key_path", "jwks_url")


class JwtSettings(BaseSettings):
    """How tokens are verified; `JWT_AUDIENCE=…` sets `audience`. An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix="JWT_", frozen=True, env_ignore_empty=True)

    algorithm: Literal["HS256", "RS256", "ES256"] = Field(
        "HS256", description="signature algorithm of the tokens"
    )
    secret_key: SecretStr | None = Field(None, description="secret for HS256; at least 32 bytes")
    public_key: str | None = Field(None, description="PEM public key for RS256 or ES256")
    public_key_path: Path | None = Field(None, description="file with a PEM public key")
    jwks_url: HttpUrl | None = Field(None, description="URL of a key set (JWKS)")
    audience: str = Field("cjstream", description="`aud` that a token must have")
    issuer: str = Field("cjstream-identity", description="`iss` that a token must have")
    roles_claim: str = Field(
        "roles",
        min_length=1,
        description="claim with the caller's roles, or the path to it: realm_access.roles (Keycloak), groups (Okta),"
        " https://example.org/roles (Auth0)",
    )
    role_names: Annotated[Mapping[str, str] | None, NoDecode] = Field(
        None, description="roles by the names in that claim: cj-admins=admin,cj-audit=auditor"
    )
    leeway_s: float = Field(30, ge=0, le=300, description="seconds by which clocks may differ")

    @field_validator("role_names", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.rpartition("=") for pair in value.split(",") if pair.strip()]
        names = {name.strip(): role.strip() for name, _, role in pairs}
        if not all(names) or not set(names.values()) <= set(READERS):
            raise ValueError(f"must be NAME=ROLE, separated by commas; roles: {', '.join(READERS)}")
        return names

    @property
    def source(self) -> str | None:
        """The name of the one key source that is set, if any. Raises Misconfigured if several are set."""
        names = [name for name in SOURCES if getattr(self, name) is not None]
        if len(names) > 1:
            raise Misconfigured(
                f"{_variable(names[1])}: {_variable(names[0])} is set, too; set only one"
            )
        return names[0] if names else None


def jwt_settings(**overrides: object) -> JwtSettings:
    """The settings of the environment, with `overrides` applied.

    Raises Misconfigured, which names the variable and never repeats its value.
    """
    return settings_of(JwtSettings, _variable, overrides)


def build_verifier(environment: str, settings: JwtSettings) -> Verifier:
    """The verifier for these settings; no key set is fetched before the first token.

    Raises Misconfigured, which names the variable, if the key is missing, given twice or unsuitable.
    """
    return Verifier(
        keys=_keys(environment, settings),
        algorithm=settings.algorithm,
        audience=settings.audience,
        issuer=settings.issuer,
        leeway_s=settings.leeway_s,
        roles_claim=settings.roles_claim,
        role_names=settings.role_names,
    )


def hmac_secret(environment: str, settings: JwtSettings) -> bytes:
    """The secret for HS256; in development, a fixed one if none is set. Raises Misconfigured."""
    is_development = environment == "development"
    if settings.source not in (None, "secret_key"):
        raise Misconfigured(
            f"{_variable(str(settings.source))}: HS256 needs JWT_SECRET_KEY instead"
        )
    if settings.secret_key is None and not is_development:
        raise Misconfigured("JWT_SECRET_KEY: missing (or set another JWT_ALGORITHM and its key)")
    secret = (
        settings.secret_key.get_secret_value() if settings.secret_key else DEV_SECRET
    ).encode()
    if not is_development and secret == DEV_SECRET.encode():
        raise Misconfigured("JWT_SECRET_KEY: is the development secret, which is public")
    if not is_development and len(secret) < MIN_SECRET_BYTES:
        raise Misconfigured(
            f"JWT_SECRET_KEY: has {len(secret)} bytes; the minimum is {MIN_SECRET_BYTES}"
        )
    try:
        get_default_algorithms()["HS256"].prepare_key(secret)
    except jwt.InvalidKeyError:
        raise Misconfigured(
            "JWT_SECRET_KEY: is a public key or certificate, not a secret"
        ) from None
    # HMAC pads the secret with zeros itself: signatures stay the same, and PyJWT accepts a short secret
    return secret.ljust(MIN_SECRET_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class OneKey:
    """The one configured key; the kid of a token is ignored."""

    key: Any

    async def key_for(self, _kid: str | None) -> Any:
        """The key."""
        return self.key

    async def are_loaded(self) -> bool:
        """Always true: the key is configured."""
        return True


def _keys(environment: str, settings: JwtSettings) -> SigningKeys:
    algorithm, source = settings.algorithm, settings.source
    if algorithm == "HS256":
        return OneKey(hmac_secret(environment, settings))
    if source is None:
        raise Misconfigured(
            f"JWT_PUBLIC_KEY: missing; {algorithm} needs it, JWT_PUBLIC_KEY_PATH or JWT_JWKS_URL"
        )
    if source == "secret_key":
        raise Misconfigured(f"JWT_SECRET_KEY: {algorithm} needs a public key instead")
    if settings.jwks_url is not None:
        http_client(str(settings.jwks_url)).close()  # refuses unusable proxy settings now
        fetch = partial(fetch_json, str(settings.jwks_url))
        return KeySet(fetch, algorithm, time.monotonic)
    try:
        return OneKey(prepare_public_key(algorithm, _pem(settings)))
    except (jwt.InvalidKeyError, ValueError, TypeError, UnsupportedAlgorithm):
        raise Misconfigured(f"{_variable(source)}: not a public key for {algorithm}") from None


def _pem(settings: JwtSettings) -> str:
    if settings.public_key_path is None:
        return settings.public_key or ""
    try:
        return settings.public_key_path.read_text("utf-8")
    except OSError as fault:
        raise Misconfigured(f"JWT_PUBLIC_KEY_PATH: cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise Misconfigured("JWT_PUBLIC_KEY_PATH: is not PEM") from fault


def _variable(name: str) -> str:
    return f"JWT_{name.upper()}"
