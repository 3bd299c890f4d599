"""HTTP for one command: one correlation id, up to three attempts, failures as CJStreamErrors."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

from processors.http_clients import http_client
from tools.admin.failures import NoAnswer, Refused, Usage

if TYPE_CHECKING:
    import httpx  # imported where it is used: it takes longer than a command that does not need it

PAUSES_S = (0.5, 1.0)  # before the second and the third attempt
ROOT = "/admin/v1"


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A successful response: its status and its JSON document."""

    status: int
    document: Any


@dataclass(frozen=True, slots=True)
class HttpClient:
    """The requests of one command; `timeout_s` limits connecting, sending and reading of each attempt."""

    timeout_s: float
    correlation_id: str = field(default_factory=lambda: str(uuid4()))
    pause: Callable[[float], None] = time.sleep
    client: "httpx.Client | None" = None  # kept open for many requests

    def send(
        self,
        operation: str,
        method: str,
        url: str,
        *,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """The response, if it is a success. Raises Refused, whose message names the `operation`, and NoAnswer.

        A request without a response, or with a response of 502 to 504, is sent again. That is safe for a write:
        if the first attempt was applied, the second one changes nothing.
        """
        import httpx

        request = httpx.Request(
            method,
            url,
            params=query,
            json=body,
            headers={"X-Correlation-ID": self.correlation_id, **(headers or {})},
            extensions={"timeout": httpx.Timeout(self.timeout_s).as_dict()},
        )
        with nullcontext(self.client) if self.client else http_client(url) as client:
            for pause_s in (*PAUSES_S, None):
                try:
                    response = client.send(request)
                except httpx.HTTPError as fault:
                    if pause_s is None:
                        cause = str(fault) or type(fault).__name__
                        if isinstance(fault, httpx.TimeoutException):
                            cause = f"timed out ({type(fault).__name__})"
                        raise NoAnswer(url, cause, self.correlation_id) from fault
                else:
                    if pause_s is None or not 502 <= response.status_code <= 504:
                        return self._to_api_response(operation, response)
                self.pause(pause_s)
        raise AssertionError("the third attempt returns or raises")

    def _to_api_response(self, operation: str, response: "httpx.Response") -> ApiResponse:
        try:
            document = response.json()
        except ValueError:
            document = None
        if response.is_success and document is not None:
            return ApiResponse(response.status_code, document)
        if response.is_success:
            document = {
                "title": "not a JSON document",
                "detail": f"is this the admin API? {response.url}",
            }
        if not isinstance(document, dict) or "title" not in document:
            document = {
                "type": "about:blank",
                "title": response.reason_phrase,
                "status": response.status_code,
                "detail": f"no problem document from {response.url}",
            }
        correlation_id = str(document.get("correlation_id", self.correlation_id))
        raise Refused(operation, response.status_code, document, correlation_id)


def normalize_base_url(base_url: str) -> str:
    """The base URL without a trailing /admin/v1 or slash. Raises Usage."""
    import httpx

    address = base_url.strip().rstrip("/").removesuffix(ROOT).rstrip("/")
    try:
        parts = urlsplit(address)
        httpx.URL(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_address &= not (parts.query or parts.fragment) and (parts.port is None or parts.port > 0)
    except (ValueError, httpx.InvalidURL):
        is_address = False
    if not is_address:
        raise Usage("the base URL must be an http or https address such as http://localhost:9095")
    return address


def route(*parts: str) -> str:
    """A path below /admin/v1, with percent-encoded parts."""
    return "/".join((ROOT, *(quote(part, safe="") for part in parts)))
