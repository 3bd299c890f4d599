"""Serves an application in this process, with limits of its own, for clients that are raw sockets."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from tests.support.until import until
from tools.api.connections import (
    ACCEPTED_AT_ONCE,
    MAX_HEADER_BYTES,
    BoundedServer,
    ConnectionLimits,
    bounded,
)


class Served:
    """The server of one application, and clients of it."""

    def __init__(self, server: BoundedServer, port: int) -> None:
        self.server = server
        self.port = port

    @property
    def open_connections(self) -> int:
        return len(self.server.server_state.connections)

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection on which these bytes have been sent."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        client.sendall(sent)
        return client

    def is_healthy(self) -> bool:
        return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=10).status_code == 200


@contextmanager
def served(app: FastAPI, **limits: Any) -> Iterator[Served]:
    """Serve the application on loopback while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app,
            http=bounded(ConnectionLimits(**{"connections": 100, "keep_alive_s": 60, **limits})),  # type: ignore[arg-type]
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            backlog=ACCEPTED_AT_ONCE,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        server = BoundedServer(config)
        thread = Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        until(lambda: server.started)
        try:
            yield Served(server, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)


def all_of(client: socket.socket) -> bytes:
    """Everything that the server sends until it closes the connection."""
    received = bytearray()
    with suppress(ConnectionResetError):
        while part := client.recv(65536):
            received += part
    return bytes(received)
