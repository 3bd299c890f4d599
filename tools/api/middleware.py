"""The middleware around every request: correlation id, log line, metrics, and a 500 response after a bug."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tools.api.errors.client_address import client_of
from tools.api.errors.correlation import CURRENT, HEADER, Correlation, correlate
from tools.api.errors.problems import Problem, problem_response
from tools.api.services.metrics import Metrics

log = logging.getLogger("cjstream.api")
CLIENT_CLOSED_REQUEST = 499
PIECE_BYTES = 64 * 1024
TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C trace context


class RequestObserver:
    """An ASGI application around another; `clock` is monotonic and returns seconds."""

    def __init__(self, app: ASGIApp, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request to the inner application, then log and count it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        correlation = correlate(scope)
        until_end = (
            AsyncExitStack()
        )  # closed when the response has been sent, or its client is gone
        state = {"correlation": correlation, "until_end": until_end}
        scope["state"] = {**scope.get("state", {}), **state}
        started_s, status = self._clock(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = correlation.id
                headers.setdefault("Cache-Control", "no-store")
                await send(message)
            else:
                for piece in _pieces(message):
                    await send(piece)

        token = CURRENT.set(correlation)
        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or CLIENT_CLOSED_REQUEST
        except Exception:
            log.exception("unexpected error")
            if status:
                raise  # part of the response has been sent: the connection must be closed
            problem = Problem(
                "internal-error", "the request failed; search the logs for its correlation id"
            )
            respond = problem_response(Request(scope), problem)
            await respond(scope, receive, send_with_headers)
        finally:
            await until_end.aclose()
            self._log_and_count(scope, correlation, status, self._clock() - started_s)
            CURRENT.reset(token)

    def _log_and_count(
        self, scope: Scope, correlation: Correlation, status: int, took_s: float
    ) -> None:
        route = route_of(scope)
        self._metrics.count_request(scope["method"], route, status, took_s)
        state = scope["state"]
        fields = {
            "client": client_of(scope),
            "actor": state.get("actor"),
            "method": scope["method"],
            "route": route,
            "status": status,
            "duration_ms": round(took_s * 1000, 1),
            "problem": state.get("problem"),
            "correlation_id_original": correlation.original,
            "trace_id": _trace_of(scope),
        }
        present = {name: value for name, value in fields.items() if value is not None}
        log.info("HTTP request", extra=present)


def _pieces(message: Message) -> Iterator[Message]:
    """A part of a body in pieces: the server buffers a piece completely, but waits for the client before the next."""
    body = message.get("body", b"")
    last = max(0, len(body) - 1) // PIECE_BYTES * PIECE_BYTES
    for start in range(0, last, PIECE_BYTES):
        yield {**message, "body": body[start : start + PIECE_BYTES], "more_body": True}
    yield {**message, "body": body[last:]}


def route_of(scope: Scope) -> str:
    """The path template of the route, never the path itself."""
    return str(getattr(scope.get("route"), "path", None) or "unmatched")


def common_log_fields(environment: str) -> Callable[[], dict[str, Any]]:
    """A function that returns the fields which every log line of the process has in addition to its own."""

    def common_fields() -> dict[str, Any]:
        fields = {"service": "cjstream-api", "environment": environment}
        correlation = CURRENT.get()
        return fields if correlation is None else {**fields, "correlation_id": correlation.id}

    return common_fields


def _trace_of(scope: Scope) -> str | None:
    match = TRACE.fullmatch(Headers(scope=scope).get("traceparent", ""))
    return match[1] if match else None
