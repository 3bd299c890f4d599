"""The token cache: one file that only its owner can read, replaced atomically."""

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic import ConfigDict, TypeAdapter

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

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    def is_usable(self, now_s: float) -> bool:
        """Whether it has not expired and will not expire within EXPIRY_MARGIN_S."""
        return now_s < self.expires_at_s - EXPIRY_MARGIN_S


TOKEN_FILE = TypeAdapter(CachedToken)


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
            return TOKEN_FILE.validate_json(self.path.read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, token: CachedToken) -> None:
        """Replace the cached token. Raises CJStreamError if the file cannot be written."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.parent == config_folder():
                self._tighten(self.path.parent, 0o700)
            replace(self.path, TOKEN_FILE.dump_json(token), 0o600)
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


def claims_of(token: str) -> dict[str, Any]:
    """The unverified claims of a token, only for display and for its expiry; empty if it is not a JWT."""
    import jwt  # takes longer than a command that does not need it

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


def is_sendable(token: str) -> bool:
    """Whether the token can be sent in a header."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token
