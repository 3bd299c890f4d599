"""The session of a browser: who signed in and until when, in an encrypted cookie; the server keeps nothing.

The cookie holds no token. So a session ends when its token would, and signing out forgets it in this browser only.
"""

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from starlette.requests import Request
from starlette.responses import Response

from tools.api.auth.authentication import ADMINS, AUDITORS, Caller

SESSION, SIGNING_IN = "cjstream-session", "cjstream-signing-in"  # the names of the cookies
SIGNING_IN_S = 600  # the longest time at the page of an identity provider


@dataclass(frozen=True, slots=True)
class Session:
    """A subject with its roles; `csrf` is in every form of the session."""

    subject: str
    roles: tuple[str, ...]
    expires_at_s: float
    csrf: str

    @property
    def caller(self) -> Caller:
        """The caller of the API's routes."""
        return Caller(self.subject, frozenset(self.roles))

    @property
    def is_admin(self) -> bool:
        """Whether it may change anything."""
        return not self.caller.roles.isdisjoint(ADMINS)

    @property
    def is_auditor(self) -> bool:
        """Whether it may read everything."""
        return not self.caller.roles.isdisjoint(AUDITORS)


def new_session(caller: Caller, expires_at_s: float) -> Session:
    """The session of a caller who has just signed in."""
    return Session(
        caller.subject, tuple(sorted(caller.roles)), expires_at_s, secrets.token_urlsafe(16)
    )


class Cookies:
    """Encrypts values into cookies and reads them back; `now_s` is the time since the epoch."""

    def __init__(self, key: bytes, now_s: Callable[[], float], *, secure: bool) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"cjstream console").derive(key)
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))
        self._now_s = now_s
        self._secure = secure

    def session_of(self, request: Request) -> Session | None:
        """The session of a request; None if there is none or it has ended."""
        value = self.read(request, SESSION)
        if value is None:
            return None
        session = Session(**{**value, "roles": tuple(value["roles"])})
        return session if session.expires_at_s > self._now_s() else None

    def start(self, request: Request, response: Response, session: Session) -> None:
        """Add the cookie of a session to a response."""
        self.write(request, response, SESSION, asdict(session), session.expires_at_s)

    def write(
        self,
        request: Request,
        response: Response,
        name: str,
        value: Mapping[str, Any],
        expires_at_s: float,
    ) -> None:
        """Add a cookie to a response, for this installation's pages only."""
        sealed = self._fernet.encrypt(orjson.dumps({"name": name, "value": value})).decode()
        response.set_cookie(
            name,
            sealed,
            max_age=max(0, int(expires_at_s - self._now_s())),
            path=request.scope["root_path"],
            secure=self._secure,
            httponly=True,
            samesite="lax",  # strict would keep it back when a browser returns from an identity provider
        )

    def read(self, request: Request, name: str) -> dict[str, Any] | None:
        """The value of a cookie; None if there is none, or it was not written here under this name."""
        try:
            document = orjson.loads(self._fernet.decrypt(request.cookies.get(name, "")))
        except (InvalidToken, ValueError):
            return None
        found: dict[str, Any] = document["value"]
        return found if document["name"] == name else None

    def delete(self, request: Request, response: Response, name: str) -> None:
        """Remove a cookie from the browser."""
        response.delete_cookie(
            name, path=request.scope["root_path"], secure=self._secure, httponly=True
        )
