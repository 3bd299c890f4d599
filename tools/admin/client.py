"""HTTP for one command: one correlation id, up to three attempts, every failure one of ours."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx

from tools.admin.failures import NoAnswer, Refused, Usage

PAUSES_S = (0.5, 1.0)  # before the second and the third attempt
ROOT = "/admin/v1"


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A success: its status and JSON document, the tag without quotes."""

    status: int
    document: Any
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class HttpClient:
    """Requests of one command. `timeout_s` bounds each attempt's connecting, sending and reading."""

    timeout_s: float
    correlation_id: str = field(default_factory=lambda: str(uuid4()))
    pause: Callable[[float], None] = time.sleep

    def send(
        self,
        what: str,
        method: str,
        url: str,
        *,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """The answer, if it is a success. Raises Refused and NoAnswer; `what` names the call in them.

        An attempt that found nobody, or was answered 502 to 504, is repeated: a write that got through
        after all changes nothing when it comes again.
        """
        request = httpx.Request(
            method,
            url,
            params=query,
            json=body,
            headers={"X-Correlation-ID": self.correlation_id, **(headers or {})},
            extensions={"timeout": httpx.Timeout(self.timeout_s).as_dict()},
        )
        with httpx.Client() as client:
            for pause_s in (*PAUSES_S, None):
                try:
                    response = client.send(request)
                except httpx.HTTPError as fault:
                    if pause_s is None:
                        raise NoAnswer(url, _cause(fault), self.correlation_id) from fault
                else:
                    if pause_s is None or not 502 <= response.status_code <= 504:
                        return self._answer(what, response)
                self.pause(pause_s)
        raise AssertionError("the third attempt ends it")

    def _answer(self, what: str, response: httpx.Response) -> ApiResponse:
        document = _document(response)
        if response.is_success and document is not None:
            return ApiResponse(
                response.status_code, document, response.headers.get("ETag", "").strip('"') or None
            )
        if response.is_success:
            document = {"title": "no JSON document", "detail": f"is this the API? {response.url}"}
        if not isinstance(document, dict) or "title" not in document:
            document = {
                "type": "about:blank",
                "title": response.reason_phrase,
                "status": response.status_code,
                "detail": f"no problem document from {response.url}",
            }
        told = str(document.get("correlation_id", self.correlation_id))
        raise Refused(what, response.status_code, document, told)


def _document(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _cause(fault: httpx.HTTPError) -> str:
    if isinstance(fault, httpx.TimeoutException):
        return f"no answer in time ({type(fault).__name__})"
    return str(fault) or type(fault).__name__


def root_of(base_url: str) -> str:
    """The address that routes hang on, without /admin/v1 and slashes at the end. Raises Usage."""
    address = base_url.strip().rstrip("/").removesuffix(ROOT).rstrip("/")
    try:
        parts = urlsplit(address)
        httpx.URL(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_address &= not (parts.query or parts.fragment) and (parts.port is None or parts.port > 0)
    except (ValueError, httpx.InvalidURL):
        is_address = False
    if not is_address:
        raise Usage("the base URL is no http or https address, such as http://localhost:9095")
    return address


def route(*parts: str) -> str:
    """A path below /admin/v1, its parts escaped."""
    return "/".join((ROOT, *(quote(part, safe="") for part in parts)))
