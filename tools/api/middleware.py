"""Around every request: its correlation id, its log line, its counts, and an answer where a bug left none."""

import logging
import re
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tools.api.errors.correlation import CURRENT, HEADER, Correlation, correlate
from tools.api.errors.problems import Problem, problem_response
from tools.api.services.metrics import Metrics

log = logging.getLogger("cjstream.api")
CLIENT_LEFT = 499
TRACE = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C trace context


class RequestObserver:
    """An ASGI application around another; clock gives seconds that only grow."""

    def __init__(self, app: ASGIApp, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        correlation = correlate(scope)
        scope["state"] = {**scope.get("state", {}), "correlation": correlation}
        began, status = self._clock(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = correlation.id
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        token = CURRENT.set(correlation)
        try:
            await self._app(scope, receive, told)
        except ClientDisconnect:
            status = status or CLIENT_LEFT
        except Exception:
            log.exception("unexpected_error")
            if status:
                raise  # half an answer is out: the connection has to break
            problem = Problem("internal-error", "the request failed; its correlation id finds why")
            await problem_response(Request(scope), problem)(scope, receive, told)
        finally:
            self._tell(scope, correlation, status, self._clock() - began)
            CURRENT.reset(token)

    def _tell(self, scope: Scope, correlation: Correlation, status: int, took_s: float) -> None:
        route = route_of(scope)
        self._metrics.count_request(scope["method"], route, status, took_s)
        state = scope["state"]
        fields = {
            "actor": state.get("actor"),
            "method": scope["method"],
            "route": route,
            "status": status,
            "duration_ms": round(took_s * 1000, 1),
            "problem": state.get("problem"),
            "correlation_id_original": correlation.original,
            "trace_id": _trace_of(scope),
        }
        known = {name: value for name, value in fields.items() if value is not None}
        log.info("http_request", extra=known)


def route_of(scope: Scope) -> str:
    """The template of the route, never the path."""
    return str(getattr(scope.get("route"), "path", None) or "unmatched")


def logged(environment: str) -> Callable[[], dict[str, Any]]:
    """What every log line of the process says beside its own fields."""

    def always() -> dict[str, Any]:
        told = {"service": "cjstream-api", "environment": environment}
        correlation = CURRENT.get()
        return told if correlation is None else {**told, "correlation_id": correlation.id}

    return always


def _trace_of(scope: Scope) -> str | None:
    sent = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    found = TRACE.fullmatch(sent)
    return found[1].decode() if found else None
