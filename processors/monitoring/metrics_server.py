"""/metrics, /healthz and /readyz of a worker or a judge, on an address of its own."""

import logging
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from schemas.errors import Misconfigured

log = logging.getLogger("cjstream.metrics")
ADDRESS = re.compile(r"(?P<host>\[[\da-fA-F:.%\w]+\]|[\w.-]*):(?P<port>\d{1,5})")
MAX_PORT = 65_535
REQUEST_S = 5.0  # a client that is slower is disconnected
Checks = Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Served:
    """What the server answers with. `health`: whether the process works at all; `readiness`: what it needs to work."""

    registry: CollectorRegistry
    health: Callable[[], Checks]
    readiness: Callable[[], Checks]


class MetricsServer:
    """Serves from a thread of its own, which ends with the process."""

    def __init__(self, address: str, served: Served, *, setting: str) -> None:
        """Listen on host:port. Raises Misconfigured, naming the setting, if the address is not available."""
        match = ADDRESS.fullmatch(address)
        if match is None or int(match["port"]) > MAX_PORT:
            raise Misconfigured(f"{setting}: must be host:port")
        host = match["host"].strip("[]")
        try:
            self._server = _server(host, int(match["port"]), served)
        except OSError as fault:
            raise Misconfigured(
                f"{setting}: cannot listen on {address}: {fault.strerror}"
            ) from fault

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer requests until the process ends, or `close`."""
        threading.Thread(
            target=self._server.serve_forever, name="metrics", args=(0.5,), daemon=True
        ).start()

    def close(self) -> None:
        """Stop answering and release the address."""
        self._server.shutdown()
        self._server.server_close()


def _server(host: str, port: int, served: Served) -> ThreadingHTTPServer:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = found[0]
    return _Server(family, address, partial(_Handler, served))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, family: socket.AddressFamily, address: Any, handler: Any) -> None:
        self.address_family = family
        super().__init__(address, handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's also asks the name server for the host's name

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong without a traceback on stderr; a client that went away is nothing."""
        fault = sys.exception()
        if not isinstance(fault, OSError):
            log.warning("request not answered", extra={"fault": type(fault).__name__})


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server_version = sys_version = ""

    def __init__(self, answers: Served, *arguments: Any) -> None:
        self.answers = answers
        super().__init__(*arguments)

    def do_GET(self) -> None:  # the names that http.server looks for
        status, content_type, body = self._answer()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (likewise)

    def _answer(self) -> tuple[HTTPStatus, str, bytes]:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self.answers.registry)
        checks = {"/healthz": self.answers.health, "/readyz": self.answers.readiness}.get(path)
        if checks is None:
            return HTTPStatus.NOT_FOUND, "text/plain", b"/metrics, /healthz, /readyz\n"
        return _report(checks())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: a line for each scrape would say nothing."""


def _report(checks: Checks) -> tuple[HTTPStatus, str, bytes]:
    is_ok = all(checks.values())
    status = HTTPStatus.OK if is_ok else HTTPStatus.SERVICE_UNAVAILABLE
    body = {"status": "ok" if is_ok else "unavailable", "checks": dict(checks)}
    return status, "application/json", orjson.dumps(body)
