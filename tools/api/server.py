"""`cjstream api`: the admin API in the foreground, ended by SIGTERM or Ctrl-C."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI

from processors.app import build_upload_log
from processors.settings import Settings
from processors.shutdown import Shutdown
from processors.upload_log.upload_log import UploadLog
from processors.worker import codec_unless_stopped
from schemas.errors import CJStreamError, Misconfigured
from tools.api.app import build_api, metrics_app
from tools.api.auth.key_settings import build_verifier, jwt_settings
from tools.api.middleware import logged
from tools.api.services.async_content_store import AsyncContentStore
from tools.api.services.audit_service import LogAuditService
from tools.logs import log_to_stderr
from tools.progress import say

log = logging.getLogger("cjstream.api")
REQUESTS_S = 4  # for requests under way, once shutdown is requested
STOP_S = 8.5
LOOK_S = 0.1
SAY_AGAIN_S = 10.0


def run(settings: Settings) -> NoReturn:
    """Serve until a signal, then end the process: a fault is one line and its exit code."""
    log_to_stderr(always=logged(settings.environment))
    for library in ("uvicorn", "httpx"):  # they tell of each request, its URL included
        logging.getLogger(library).setLevel(logging.WARNING)
    loop = asyncio.new_event_loop()
    exit_code = 0
    try:
        loop.run_until_complete(_run(settings))
    except CJStreamError as fault:
        if isinstance(fault, Misconfigured):
            log.error("config_refused", extra={"reason": str(fault)})
        say(f"cjstream: {fault}")
        exit_code = fault.exit_code
    except Exception as fault:
        log.exception("unexpected_error")
        say(f"cjstream: the API cannot go on: {type(fault).__name__}")
        exit_code = CJStreamError.exit_code
    sys.stderr.flush()
    os._exit(exit_code)  # a thread inside librdkafka would be waited for


async def _run(settings: Settings) -> None:
    verifier = build_verifier(settings.environment, jwt_settings())
    contents = AsyncContentStore.of(settings)
    listening = _bound(settings.api_host, settings.api_port, "CJSTREAM_API_PORT")
    shutdown = _end_on_signals()
    codec = await codec_unless_stopped(settings, shutdown)
    if codec is None:
        return
    admin, past = build_upload_log(settings, shutdown.fail, codec), LogAuditService(settings, codec)
    app = build_api(admin, past, contents, verifier, settings)
    servers = [_serving(app, listening)]
    if settings.metrics_port is not None:
        apart = _bound(settings.api_host, settings.metrics_port, "CJSTREAM_METRICS_PORT")
        servers.append(_serving(metrics_app(app), apart))
    log.info("started", extra={"settings": _shown(settings)})
    await admin.start()
    serving = [asyncio.create_task(server.serve([own])) for server, own in servers]
    await _said_when_ready(admin, shutdown)
    await shutdown.wait()
    log.info("stopping", extra={"fault": str(shutdown.fault or "")})
    threading.Timer(STOP_S, _give_up, [shutdown]).start()
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*serving)
    await admin.stop()
    contents.close()
    past.close()
    if shutdown.fault is not None:
        raise shutdown.fault


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's: uvicorn would raise them again when it has stopped."""
        yield


def _serving(app: FastAPI, listening: socket.socket) -> tuple[_Server, socket.socket]:
    config = uvicorn.Config(
        app,
        loop="none",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=REQUESTS_S,
    )
    return _Server(config), listening


def _bound(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. Raises Misconfigured where the address cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # named TCP, or asyncio leaves Nagle's algorithm on, which costs 40 ms an answer
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as fault:
        told = fault.strerror or type(fault).__name__
        raise Misconfigured(f"{setting}: cannot listen on {host}:{port}: {told}") from fault
    listening.setblocking(False)
    return listening


def _end_on_signals() -> Shutdown:
    loop = asyncio.get_running_loop()
    shutdown = Shutdown(loop)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, shutdown.stop)
    return shutdown


async def _said_when_ready(admin: UploadLog, shutdown: Shutdown) -> None:
    """Say what is waited for until everything is there; requests are answered with 503 meanwhile."""
    begun, said_at = time.monotonic(), float("-inf")
    while not shutdown.requested and (
        missing := [what for what, ok in admin.ready().items() if not ok]
    ):
        if time.monotonic() - said_at > SAY_AGAIN_S:
            said_at = time.monotonic()
            log.info("waiting", extra={"for": missing})
        with suppress(TimeoutError):
            await asyncio.wait_for(shutdown.wait(), LOOK_S)
    if not shutdown.requested:
        log.info("ready", extra={"took_ms": round((time.monotonic() - begun) * 1000)})


def _give_up(shutdown: Shutdown) -> None:
    log.error("the API did not stop in time: the process ends")
    os._exit(getattr(shutdown.fault, "exit_code", 1))


def _shown(settings: Settings) -> dict[str, Any]:
    """The settings; a URL may bear a password."""
    shown = settings.model_dump(mode="json", exclude={"content_url", "schema_registry_url"})
    return {**shown, "content": settings.content.partition(":")[0]}
