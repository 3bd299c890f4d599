"""Serves an application on loopback, over real HTTP."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from tests.support.until import until


@dataclass(frozen=True)
class Tls:
    """The files of a server that encrypts, and the authority that must have signed the certificates of its clients."""

    certificate: Path
    key: Path
    client_authority: Path


@contextmanager
def serving(app: FastAPI, tls: Tls | None = None) -> Iterator[str]:
    """Serve the application while the block runs; yields its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)
    if tls is not None:
        config.ssl_certfile, config.ssl_keyfile = tls.certificate, tls.key
        config.ssl_ca_certs, config.ssl_cert_reqs = str(tls.client_authority), ssl.CERT_REQUIRED
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    try:
        until(lambda: server.started)
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
