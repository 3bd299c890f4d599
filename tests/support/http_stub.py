"""A small HTTP server that answers as it was told and keeps what it was asked."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request; the path is as it was sent, escapes and query included."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def route(self) -> str:
        """Method and path, as answers are given."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Told:
    """One answer: a document or raw bytes."""

    document: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None


class Answering:
    """The answers by route, `"GET /path"`: one after the other, the last for ever; and the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self._told: dict[str, list[Told]] = {}

    def tell(self, route: str, *answers: Told) -> None:
        """What a route answers from now on."""
        self._told[route] = list(answers)

    def answer(self, asked: Asked) -> Told:
        """The next answer of a route."""
        self.asked.append(asked)
        answers = self._told.get(asked.route, [Told({"title": "No such route"}, 404)])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    @property
    def routes(self) -> list[str]:
        """What was asked, in order."""
        return [asked.route for asked in self.asked]


@contextmanager
def answering() -> Iterator[Answering]:
    """A server on loopback for the length of a block."""
    told = Answering()

    class Handler(BaseHTTPRequestHandler):
        def any(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.loads(sent) if sent else None
            answer = told.answer(Asked(self.command, self.path, dict(self.headers), body))
            content = answer.raw if answer.raw is not None else json.dumps(answer.document).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.any)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield told
        server.shutdown()
