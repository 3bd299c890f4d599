"""The token cache: one file that only its owner can read, replaced atomically."""

import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jwt
import orjson
import typer

from schemas.errors import CJStreamError
from tools.admin.files import replace

DEFAULT_LIFETIME_S = 3600
EXPIRY_MARGIN_S = 30  # a token is not used so close to its expiry


@dataclass(frozen=True, slots=True)
class CachedToken:
    """A token, and the only URLs that it and its refresh token may be sent to."""

    access_token: str
    expires_at_s: float
    base_url: str
    identity_url: str | None = None
    refresh_token: str | None = None

    def is_usable(self, now_s: float) -> bool:
        """Whether it has not expired and will not expire within EXPIRY_MARGIN_S."""
        return now_s < self.expires_at_s - EXPIRY_MARGIN_S


@dataclass(frozen=True, slots=True)
class TokenCache:
    """The token file; an unreadable or invalid file counts as missing. `warn` gets one line for people."""

    path: Path
    warn: Callable[[str], None]

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], warn: Callable[[str], None]
    ) -> "TokenCache":
        """The cache at CJ_ADMIN_TOKEN_PATH, else in the user's configuration folder."""
        path = environ.get("CJ_ADMIN_TOKEN_PATH")
        return cls(Path(path) if path else config_folder() / "admin-token.json", warn)

    def read(self) -> CachedToken | None:
        """The cached token; file modes that give others access are tightened."""
        try:
            self._tighten(self.path, 0o600)
            if self.path.parent == config_folder():  # never a folder that is not ours: /tmp
                self._tighten(self.path.parent, 0o700)
            content = orjson.loads(self.path.read_bytes())
            return _parse_token(content)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, token: CachedToken) -> None:
        """Replace the cached token. Raises CJStreamError if the file cannot be written."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.parent == config_folder():
                self._tighten(self.path.parent, 0o700)
            replace(self.path, orjson.dumps(asdict(token)), 0o600)
        except OSError as fault:
            raise CJStreamError(f"cannot write {self.path}: {fault.strerror}") from fault

    def delete(self) -> bool:
        """Delete the cached token; returns whether there was one. Raises CJStreamError if it cannot be deleted."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        except OSError as fault:
            raise CJStreamError(f"cannot delete {self.path}: {fault.strerror}") from fault
        return True

    def _tighten(self, path: Path, mode: int) -> None:
        if stat.S_IMODE(path.stat().st_mode) & ~mode:
            path.chmod(mode)
            self.warn(f"{path} was accessible to others: its mode is now {mode:o}")


def config_folder() -> Path:
    """cjstream's folder in the user's configuration."""
    return Path(typer.get_app_dir("cjstream"))


def _parse_token(content: Any) -> CachedToken | None:
    token = CachedToken(**content)
    texts = (
        token.access_token,
        token.base_url,
        token.identity_url or "",
        token.refresh_token or "",
    )
    has_texts = all(isinstance(text, str) for text in texts)
    return token if has_texts and type(token.expires_at_s) in (int, float) else None


def claims_of(token: str) -> dict[str, Any]:
    """The unverified claims of a token, only for display and for its expiry; empty if it is not a JWT."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    return claims


def expiry_of(token: str, expires_in_s: object, now_s: float) -> float:
    """When a token expires, in seconds since the epoch: its exp, else expires_in_s from now, else in an hour."""
    exp = claims_of(token).get("exp")
    if type(exp) in (int, float):
        return float(exp)  # type: ignore[arg-type]
    lifetime_s = expires_in_s if type(expires_in_s) in (int, float) else DEFAULT_LIFETIME_S
    return now_s + float(lifetime_s)  # type: ignore[arg-type]
