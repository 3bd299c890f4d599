"""The token cache: one file that only its owner reads, written aside and renamed."""

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

DEFAULT_LIFE_S = 3600
NOT_WITHIN_S = 30  # of its expiry a token is used no more


@dataclass(frozen=True, slots=True)
class CachedToken:
    """A token, and the only addresses that it and its refresh token may go to."""

    access_token: str
    expires_at_s: float
    base_url: str
    identity_url: str | None = None
    refresh_token: str | None = None

    def lasts(self, now_s: float) -> bool:
        """Whether it can still be used."""
        return now_s < self.expires_at_s - NOT_WITHIN_S


@dataclass(frozen=True, slots=True)
class TokenCache:
    """A file; where it cannot be read, or makes no sense, there is none. `warn` takes a line for people."""

    path: Path
    warn: Callable[[str], None]

    @classmethod
    def of(cls, environ: Mapping[str, str], warn: Callable[[str], None]) -> "TokenCache":
        """Where CJ_ADMIN_TOKEN_PATH says, else in the user's configuration folder."""
        given = environ.get("CJ_ADMIN_TOKEN_PATH")
        return cls(Path(given) if given else own_folder() / "admin-token.json", warn)

    def read(self) -> CachedToken | None:
        """What is cached; modes that let others in are tightened."""
        try:
            self._tighten(self.path, 0o600)
            if self.path.parent == own_folder():  # never a folder that is not ours, such as /tmp
                self._tighten(self.path.parent, 0o700)
            content = orjson.loads(self.path.read_bytes())
            return _understood(content)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, token: CachedToken) -> None:
        """Replace what is cached. Raises CJStreamError where the file cannot be written."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.parent == own_folder():
                self._tighten(self.path.parent, 0o700)
            replace(self.path, orjson.dumps(asdict(token)), 0o600)
        except OSError as fault:
            raise CJStreamError(f"cannot write {self.path}: {fault.strerror}") from fault

    def delete(self) -> bool:
        """Forget it; whether there was one. Raises CJStreamError where it cannot be deleted."""
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
            self.warn(f"{path} was open to others: its mode is {mode:o} now")


def own_folder() -> Path:
    """cjstream's folder among the user's configuration."""
    return Path(typer.get_app_dir("cjstream"))


def _understood(content: Any) -> CachedToken | None:
    token = CachedToken(**content)
    texts = (
        token.access_token,
        token.base_url,
        token.identity_url or "",
        token.refresh_token or "",
    )
    is_whole = all(isinstance(text, str) for text in texts)
    return token if is_whole and type(token.expires_at_s) in (int, float) else None


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unverified: for people's eyes and for its expiry; nothing where it is no JWT."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    return claims


def expiry_of(token: str, expires_in_s: object, now_s: float) -> float:
    """When a token ends, seconds since the epoch: its exp, else expires_in from now, else in an hour."""
    exp = claims_of(token).get("exp")
    if type(exp) in (int, float):
        return float(exp)  # type: ignore[arg-type]
    lasts_s = expires_in_s if type(expires_in_s) in (int, float) else DEFAULT_LIFE_S
    return now_s + float(lasts_s)  # type: ignore[arg-type]
