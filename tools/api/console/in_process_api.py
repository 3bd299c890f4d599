"""Calls the API's routes in this process, as the caller of a session: the same checks, the same answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tools.api.auth.authentication import Caller
from tools.api.errors.correlation import HEADER, correlation_of


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a route: its status and its content, which is a problem from 400 on."""

    status: int
    content: bytes
    etag: str | None

    @property
    def document(self) -> dict[str, Any]:
        """The content as JSON."""
        found: dict[str, Any] = orjson.loads(self.content)
        return found

    @property
    def is_ok(self) -> bool:
        """Whether the route did what it was asked."""
        return self.status < 400

    @property
    def problem(self) -> str:
        """The slug of the problem, or nothing."""
        return "" if self.is_ok else str(self.document["type"]).rpartition(":")[2]


class Refused(Exception):
    """A route answered with a problem that the page has no place for."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.problem)
        self.answer = answer


class InProcessApi:
    """The API; `app` is the whole application, so that its middleware logs and counts these calls, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def call(
        self,
        request: Request,
        caller: Caller,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer of one route, called by `caller` for a request of the console."""

        async def called(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app({**scope, "state": {"caller": caller}}, receive, send)

        client = (request.client.host, request.client.port) if request.client else ("", 0)
        transport = httpx.ASGITransport(called, client=client)
        sent = {HEADER: correlation_of(request.scope).id, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        async with httpx.AsyncClient(transport=transport, base_url="http://console") as client_:
            response = await client_.request(
                method,
                path,
                params={name: value for name, value in (query or {}).items() if value is not None},
                content=None if body is None else orjson.dumps(body),
                headers=sent,
            )
        return Answer(response.status_code, response.content, response.headers.get("etag"))

    async def read(self, request: Request, caller: Caller, path: str, **query: Any) -> Answer:
        """The answer of a route that is only read. Raises Refused."""
        answer = await self.call(request, caller, "GET", path, query=query)
        if not answer.is_ok:
            raise Refused(answer)
        return answer
