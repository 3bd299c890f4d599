"""Development tokens, the only tokens that cjstream issues."""

import re
import time
from collections.abc import Sequence

from processors.settings import settings_from_environment
from schemas.errors import CJStreamError
from schemas.field_limits import NAME
from tools.admin.failures import Usage

SUBJECT = "dev-admin"
ROLES = ("admin",)
TTL = re.compile(r"([1-9][0-9]{0,5})([smhd])")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def is_development() -> bool:
    """Whether CJSTREAM_ENVIRONMENT is `development`."""
    return settings_from_environment().environment == "development"


def dev_token(
    subject: str = SUBJECT,
    roles: Sequence[str] = ROLES,
    ttl_s: int = 86_400,
    *,
    environment: str | None = None,
) -> str:
    """A token that an API in development accepts. Raises CJStreamError outside it and without HS256.

    `environment` is that of the API; by default it is the value of CJSTREAM_ENVIRONMENT.
    """
    if environment != "development" and not is_development():
        raise CJStreamError("development only: set CJSTREAM_ENVIRONMENT=development, or sign in")
    # these take longer than a command that does not need them
    import jwt

    from tools.api.auth.key_settings import hmac_secret, jwt_settings

    settings = jwt_settings()
    if settings.algorithm != "HS256":
        raise CJStreamError(f"JWT_ALGORITHM is {settings.algorithm}: development tokens need HS256")
    if not subject.strip() or NAME.problem_with(subject):
        raise Usage("--subject: must have 1 to 255 characters")
    now_s = int(time.time())
    claims = {
        "sub": subject,
        "roles": list(roles),
        "aud": settings.audience,
        "iss": settings.issuer,
        "iat": now_s,
        "exp": now_s + ttl_s,
    }
    return jwt.encode(claims, hmac_secret("development", settings), "HS256")


def seconds_of(ttl: str) -> int:
    """The seconds of a duration such as 30m, 24h or 7d. Raises Usage."""
    found = TTL.fullmatch(ttl)
    if found is None:
        raise Usage("--ttl: must be a number followed by s, m, h or d, such as 24h")
    return int(found[1]) * UNITS_S[found[2]]
