"""The JWT_… settings, and the verifier that they describe; what cannot be trusted is refused at the start."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import get_default_algorithms
from pydantic import Field, HttpUrl, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import Misconfigured
from tools.api.auth.authentication import SigningKeys, Verifier
from tools.api.auth.jwks import KeySet, fetched

PUBLIC_KEYS = {"RS256": RSAPublicKey, "ES256": EllipticCurvePublicKey}
MIN_SECRET_BYTES = 32
DEV_SECRET = "cjstream development secret, known to everybody"
SOURCES = ("secret_key", "public_key", "public_key_path", "jwks_url")


class JwtSettings(BaseSettings):
    """How tokens are verified; `JWT_AUDIENCE=…` sets `audience`. An empty variable is none."""

    model_config = SettingsConfigDict(env_prefix="JWT_", frozen=True, env_ignore_empty=True)

    algorithm: Literal["HS256", "RS256", "ES256"] = "HS256"
    secret_key: SecretStr | None = Field(None, description="of HS256; at least 32 bytes")
    public_key: str | None = Field(None, description="PEM, of RS256 and ES256")
    public_key_path: Path | None = Field(None, description="of a PEM file")
    jwks_url: HttpUrl | None = Field(None, description="of a key set")
    audience: str = "cjstream"
    issuer: str = "cjstream-identity"
    leeway_s: float = Field(30, ge=0, le=300, description="clocks may differ by so much")

    @property
    def source(self) -> str | None:
        """The name of the one key source that is set. Raises Misconfigured where there are two."""
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) > 1:
            raise Misconfigured(f"{_variable(given[1])}: {_variable(given[0])} is set, too")
        return given[0] if given else None


def jwt_settings(**given: object) -> JwtSettings:
    """The environment's settings, with those given on top.

    Raises Misconfigured, which names the variable and never repeats its value.
    """
    try:
        return JwtSettings(**given)  # type: ignore[arg-type]
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        raise Misconfigured(f"{_variable(str(first['loc'][0]))}: {first['msg']}") from fault


def build_verifier(environment: str, settings: JwtSettings) -> Verifier:
    """The verifier of the settings; nothing is fetched before the first token.

    Raises Misconfigured, naming the variable, for a key that is missing, doubled or unfit.
    """
    return Verifier(
        keys=_keys(environment, settings),
        algorithm=settings.algorithm,
        audience=settings.audience,
        issuer=settings.issuer,
        leeway_s=settings.leeway_s,
    )


def hmac_secret(environment: str, settings: JwtSettings) -> bytes:
    """The secret of HS256; in development the fixed one where none is set. Raises Misconfigured."""
    is_development = environment == "development"
    if settings.source not in (None, "secret_key"):
        raise Misconfigured(f"{_variable(str(settings.source))}: HS256 takes JWT_SECRET_KEY only")
    if settings.secret_key is None and not is_development:
        raise Misconfigured("JWT_SECRET_KEY: missing (or another JWT_ALGORITHM with its key)")
    secret = (
        settings.secret_key.get_secret_value() if settings.secret_key else DEV_SECRET
    ).encode()
    if not is_development and secret == DEV_SECRET.encode():
        raise Misconfigured("JWT_SECRET_KEY: the development secret, which is public")
    if not is_development and len(secret) < MIN_SECRET_BYTES:
        raise Misconfigured(f"JWT_SECRET_KEY: {len(secret)} bytes, at least {MIN_SECRET_BYTES}")
    try:
        get_default_algorithms()["HS256"].prepare_key(secret)
    except jwt.InvalidKeyError:
        raise Misconfigured("JWT_SECRET_KEY: a public key or certificate is no secret") from None
    # HMAC itself fills up with zeros: the same signatures, and PyJWT takes a short secret
    return secret.ljust(MIN_SECRET_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class OneKey:
    """A key that was given; a token's kid does not matter."""

    key: Any

    async def key_for(self, _kid: str | None) -> Any:
        """The key."""
        return self.key

    async def are_loaded(self) -> bool:
        """It is."""
        return True


def _keys(environment: str, settings: JwtSettings) -> SigningKeys:
    algorithm, source = settings.algorithm, settings.source
    if algorithm == "HS256":
        return OneKey(hmac_secret(environment, settings))
    if source is None:
        raise Misconfigured(
            f"JWT_PUBLIC_KEY: missing; {algorithm} takes it, JWT_PUBLIC_KEY_PATH or JWT_JWKS_URL"
        )
    if source == "secret_key":
        raise Misconfigured(f"JWT_SECRET_KEY: {algorithm} takes a public key")
    if settings.jwks_url is not None:
        return KeySet(
            partial(fetched, str(settings.jwks_url)),
            lambda key: fit_key(algorithm, key.key),
            algorithm,
            time.monotonic,
        )
    try:
        return OneKey(fit_key(algorithm, _pem(settings)))
    except (jwt.InvalidKeyError, ValueError, TypeError, UnsupportedAlgorithm):
        raise Misconfigured(f"{_variable(source)}: not a public key for {algorithm}") from None


def _pem(settings: JwtSettings) -> str:
    if settings.public_key_path is None:
        return settings.public_key or ""
    try:
        return settings.public_key_path.read_text()
    except OSError as fault:
        raise Misconfigured(f"JWT_PUBLIC_KEY_PATH: cannot be read: {fault.strerror}") from fault


def fit_key(algorithm: str, key: Any) -> Any:
    """The public key, where it can verify that algorithm; else raises what the libraries raise."""
    verifying = get_default_algorithms()[algorithm]
    prepared = verifying.prepare_key(key)
    if not isinstance(prepared, PUBLIC_KEYS[algorithm]):
        raise jwt.InvalidKeyError("not a public key")
    if weakness := verifying.check_key_length(prepared):
        raise jwt.InvalidKeyError(weakness)
    return prepared


def _variable(name: str) -> str:
    return f"JWT_{name.upper()}"
