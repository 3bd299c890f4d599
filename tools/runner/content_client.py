"""The content routes of the API, for one run: each call is tried five times where a retry can help."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from random import SystemRandom
from typing import TYPE_CHECKING
from urllib.parse import quote

from schemas.errors import CJStreamError, Discrepancy, Unreachable

if TYPE_CHECKING:
    import httpx

    from tools.admin.api import AdminApi

TRIES = 5
BACKOFF_S = 0.5  # before the second try, then twice as long each time, times a random 0.5 to 1
PATH = "/v1/content"
PLAIN_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Pauses:
    """How to wait between tries: `wait` takes seconds, `random` returns a number in [0, 1)."""

    wait: Callable[[float], None]
    random: Callable[[], float]

    def before_try(self, number: int) -> None:
        """Wait before a try, which has a number from 2."""
        self.wait(BACKOFF_S * 2 ** (number - 2) * (0.5 + self.random() / 2))


@dataclass(frozen=True, slots=True)
class ContentClient:
    """Stores and finds texts; threads may call it at the same time. `token` returns a token for one call."""

    base_url: str
    client: "httpx.Client"
    token: Callable[[], str]
    pauses: Pauses
    timeout_s: float = 30.0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The URL of the content routes, which names the store in caches."""
        return self.base_url + PATH

    def store(self, content: bytes, media_type: str = PLAIN_TEXT) -> str:
        """Store a text; returns its id. Raises Discrepancy if the id is not its sha256, else CJStreamError."""
        wanted = sha256(content).hexdigest()
        response = self._call("POST", self.url, content, {"Content-Type": media_type})
        try:
            storage_id = response.json()["storage_id"]
        except (ValueError, KeyError, TypeError):
            storage_id = None
        if storage_id != wanted:
            raise Discrepancy(
                f"{self.url} stored {wanted} under another id: is it a content store of cjstream?"
            )
        return wanted

    def has(self, storage_id: str) -> bool:
        """Whether the store has a text, undamaged. Raises CJStreamError."""
        return self._call("HEAD", self._url_of(storage_id), absent=True).status_code != 404

    def get(self, storage_id: str) -> bytes:
        """The text. Raises Discrepancy if it is missing or another one, else CJStreamError."""
        response = self._call("GET", self._url_of(storage_id), absent=True)
        if response.status_code == 404:
            raise Discrepancy(f"{self.url} has no {storage_id}")
        if sha256(response.content).hexdigest() != storage_id:
            raise Discrepancy(f"{self.url} has other bytes under {storage_id}")
        return response.content

    def _url_of(self, storage_id: str) -> str:
        return f"{self.url}/{quote(storage_id, safe='')}"

    def _call(
        self,
        method: str,
        url: str,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        absent: bool = False,
    ) -> "httpx.Response":
        """A response that is a success, or 404 if `absent` allows it."""
        import httpx

        problem = ""
        for number in range(1, TRIES + 1):
            if number > 1:
                self.pauses.before_try(number)
            try:
                response = self.client.request(
                    method,
                    url,
                    content=content,
                    headers={
                        "Authorization": f"Bearer {self.token()}",
                        **self.headers,
                        **(headers or {}),
                    },
                    timeout=self.timeout_s,
                )
            except httpx.HTTPError as fault:
                problem = type(fault).__name__
                continue
            if response.is_success or (absent and response.status_code == 404):
                return response
            problem = f"{response.status_code} {response.reason_phrase}"
            if response.status_code != 429 and response.status_code < 500:
                raise CJStreamError(f"{method} {url}: {problem}")
        raise Unreachable(f"{method} {url}: {problem}, {TRIES} times")


def content_client(api: "AdminApi", client: "httpx.Client") -> ContentClient:
    """The content routes of an API, with the caller's token."""
    pauses = Pauses(time.sleep, SystemRandom().random)
    return ContentClient(api.base_url, client, lambda: api.credential().token, pauses)
