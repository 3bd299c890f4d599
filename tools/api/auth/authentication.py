"""Who calls: turns an Authorization header into a Caller, or raises an error with the reason.

`tools/api/auth/key_settings.py: build_verifier` makes a Verifier from the JWT_… settings. A handler does:

    caller = await verifier.caller(request.headers.get("authorization"))
    caller.must_have(AUDITORS)
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jwt
from jwt.exceptions import InvalidSubjectError

from schemas.field_limits import NAME
from tools.api.errors.problems import Problem

ADMINS = ("admin",)  # every route that is not named below
AUDITORS = ("admin", "auditor")  # GET of all instructions, of an assignment, its history, /audit/v1
READERS = ("admin", "auditor", "service")  # readiness, grade scales; GET and HEAD content
CONTENT_WRITERS = ("admin", "service")  # POST content

SCOPES = ("scope", "scp")  # claims whose names are separated by spaces
REALM = 'Bearer realm="cjstream"'
REASONS = {
    "missing_authorization_header": "send a token: Authorization: Bearer …",
    "invalid_authorization_format": "the header must be `Bearer` and one token",
    "token_expired": "the token has expired: sign in again",
    "token_not_yet_valid": "nbf or iat is in the future: compare the clocks",
    "missing_exp": "the token has no exp",
    "invalid_audience": "aud is missing or names another audience",
    "invalid_issuer": "iss is missing or names another issuer",
    "invalid_signature": "the signature is not that of the configured key",
    "invalid_algorithm": "alg is not the configured algorithm",
    "unknown_key": "kid is missing or not in the key set",
    "invalid_subject": "sub is missing, blank, too long or not text",
    "invalid_token": "not a well-formed JWT",
}
REASON_BY_CLAIM = {
    "exp": "missing_exp",
    "aud": "invalid_audience",
    "iss": "invalid_issuer",
    "sub": "invalid_subject",
}
REASON_BY_ERROR: dict[type[jwt.PyJWTError], str] = {
    jwt.InvalidSignatureError: "invalid_signature",
    jwt.InvalidAlgorithmError: "invalid_algorithm",
    jwt.ExpiredSignatureError: "token_expired",
    jwt.ImmatureSignatureError: "token_not_yet_valid",
    jwt.InvalidAudienceError: "invalid_audience",
    jwt.InvalidIssuerError: "invalid_issuer",
    InvalidSubjectError: "invalid_subject",
}


class Unauthenticated(Problem):
    """No credentials or invalid ones: 401. `reason` is a key of REASONS."""

    def __init__(self, reason: str) -> None:
        challenge = REALM
        if (
            reason != "missing_authorization_header"
        ):  # RFC 6750, section 3.1: no error without a token
            challenge += f', error="invalid_token", error_description="{reason}"'
        headers = {"WWW-Authenticate": challenge}
        super().__init__("unauthenticated", REASONS[reason], headers=headers, reason=reason)
        self.reason = reason


class Forbidden(Problem):
    """A valid token without a required role: 403."""

    reason = "forbidden"

    def __init__(self, required_roles: Collection[str], found: str) -> None:
        detail = f"needs one of the roles {', '.join(required_roles)}, but {found}"
        headers = {"WWW-Authenticate": f'{REALM}, error="insufficient_scope"'}
        super().__init__("forbidden", detail, headers=headers, required_roles=list(required_roles))


class KeysUnavailable(Problem):
    """The key set cannot be fetched and none is cached: 503."""

    def __init__(self, reason: str = "the signing keys cannot be fetched") -> None:
        super().__init__("auth-keys-unavailable", f"JWT_JWKS_URL: {reason}")


@dataclass(frozen=True, slots=True)
class Caller:
    """The subject and roles of a verified token; `subject` becomes the actor of events."""

    subject: str
    roles: frozenset[str]
    found: str = field(default="the token has none", compare=False)  # what it says about roles

    def must_have(self, roles: Collection[str]) -> None:
        """Raise Forbidden if the caller has none of the roles."""
        if self.roles.isdisjoint(roles):
            raise Forbidden(roles, self.found)


class SigningKeys(Protocol):
    """The source of the key that verifies a token."""

    async def key_for(self, kid: str | None) -> Any:
        """The public key or secret for this key id. Raises Unauthenticated(unknown_key) and KeysUnavailable."""

    async def are_loaded(self) -> bool:
        """Whether there are keys; missing ones are fetched first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Verifies tokens of one issuer for one audience, signed with one algorithm."""

    keys: SigningKeys
    algorithm: str
    audience: str
    issuer: str
    leeway_s: float
    roles_claim: str = "roles"
    role_names: Mapping[str, str] | None = None  # ours by theirs; None: theirs are ours

    async def caller(self, authorization: str | None) -> Caller:
        """The caller of the header's token. Raises Unauthenticated and KeysUnavailable."""
        caller, _ = await self.caller_until(authorization)
        return caller

    async def caller_until(self, authorization: str | None) -> tuple[Caller, float]:
        """The caller of the header's token, and when it expires, in seconds since the epoch. Raises as `caller`."""
        token = token_of(authorization)
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != self.algorithm:  # before a key is fetched
                raise Unauthenticated("invalid_algorithm")
            key = await self.keys.key_for(header.get("kid"))
            claims = self._claims(token, key)
        except jwt.MissingRequiredClaimError as fault:
            raise Unauthenticated(REASON_BY_CLAIM[fault.claim]) from None
        except jwt.PyJWTError as fault:
            raise Unauthenticated(REASON_BY_ERROR.get(type(fault), "invalid_token")) from None
        names = roles_in(claims, self.roles_claim)
        caller = Caller(subject_of(claims), self._roles(names), self._found(names))
        return caller, float(claims["exp"])

    def _roles(self, names: frozenset[str] | None) -> frozenset[str]:
        if self.role_names is None:
            return names or frozenset()
        return frozenset(self.role_names[name] for name in names or () if name in self.role_names)

    def _found(self, names: frozenset[str] | None) -> str:
        claim = f"the token's claim {self.roles_claim}"
        if names is None:
            return f"{claim} is missing or no list of names (JWT_ROLES_CLAIM says where to look)"
        if self.role_names is not None:
            return f"{claim} has none of the names that JWT_ROLE_NAMES maps to them"
        return f"{claim} has none of them"

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[self.algorithm],
            audience=self.audience,
            issuer=self.issuer,
            leeway=self.leeway_s,
            options={"require": ["exp", "sub"], "enforce_minimum_key_length": True},
        )
        for name in ("exp", "nbf", "iat"):  # PyJWT accepts "123" and true as a time
            if name in claims and type(claims[name]) not in (int, float):
                raise Unauthenticated("invalid_token")
        return claims


def token_of(authorization: str | None) -> str:
    """The token of an Authorization header. Raises Unauthenticated."""
    if authorization is None:
        raise Unauthenticated("missing_authorization_header")
    match authorization.split():
        case [scheme, token] if scheme.lower() == "bearer":
            return token
    raise Unauthenticated("invalid_authorization_format")


def subject_of(claims: dict[str, Any]) -> str:
    """The claim sub, which must be valid as an event's actor. Raises Unauthenticated."""
    subject: str = claims["sub"]
    is_text = not any("\ud800" <= character <= "\udfff" for character in subject)
    if not subject.strip() or NAME.problem_with(subject) or not is_text:
        raise Unauthenticated("invalid_subject")
    return subject


def roles_in(claims: Mapping[str, Any], path: str) -> frozenset[str] | None:
    """The list of names at a path of claims, or the names in OAuth's text of scopes; None if there is neither.

    The path is a claim's name, or several with dots between them; a name may contain dots itself, as in a URL.
    """
    found = _at(claims, path)
    if isinstance(found, str) and path in SCOPES:
        return frozenset(found.split())
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return frozenset(found)
    return None


def _at(claims: object, path: str) -> object:
    if not isinstance(claims, Mapping):
        return None
    if path in claims:
        return claims[path]
    starts = [index for index, character in enumerate(path) if character == "."]
    inner = (_at(claims.get(path[:index]), path[index + 1 :]) for index in starts)
    return next((found for found in inner if found is not None), None)
