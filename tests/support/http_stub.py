"""A small HTTP server that returns prepared responses and records its requests."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request; the path is as it was sent, with escapes and query. A body that is not JSON is its bytes."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def route(self) -> str:
        """Method and path: the key of the prepared responses."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Told:
    """One response: a JSON document or raw bytes."""

    document: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None


class Answering:
    """The prepared responses by route, such as `"GET /path"`, and the recorded requests."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Asked] = []
        self._responses: dict[str, list[Told]] = {}

    def respond(self, route: str, *responses: Told) -> None:
        """Prepare the responses of a route: they are returned in order, and the last one is repeated."""
        self._responses[route] = list(responses)

    def response_to(self, request: Asked) -> Told:
        """Record a request; returns the next response of its route."""
        self.requests.append(request)
        responses = self._responses.get(request.route, [Told({"title": "No such route"}, 404)])
        return responses.pop(0) if len(responses) > 1 else responses[0]

    @property
    def routes(self) -> list[str]:
        """The routes of the requests, in order."""
        return [request.route for request in self.requests]


@contextmanager
def answering() -> Iterator[Answering]:
    """Run a server on loopback while the block runs."""
    stub = Answering()

    class Handler(BaseHTTPRequestHandler):
        def any(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_json = "json" in self.headers.get("Content-Type", "json")
            body = json.loads(sent) if sent and is_json else sent or None
            request = Asked(self.command, self.path, dict(self.headers), body)
            response = stub.response_to(request)
            content = response.raw
            if content is None:
                content = json.dumps(response.document).encode()
            self.send_response(response.status)
            for name, value in {"Content-Length": str(len(content)), **response.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.any)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stub.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield stub
        server.shutdown()
