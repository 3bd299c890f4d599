"""`cjstream api`: the admin API as a foreground process; SIGTERM or Ctrl-C stops it."""

import asyncio
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI

from processors.addresses import host_and_port, is_loopback
from processors.log.judging_log import JudgingLog
from processors.registry.registry_codec import codec_unless_stopped
from processors.settings import GROUPS, Settings
from processors.shutdown import Shutdown
from processors.upload_log.upload_log import UploadLog, build_upload_log
from schemas.errors import CJStreamError, Misconfigured
from tools.api.app import build_api, metrics_app
from tools.api.auth.key_settings import build_verifier, jwt_settings
from tools.api.connections import (
    ACCEPTED_AT_ONCE,
    MAX_HEADER_BYTES,
    MIN_CONNECTIONS,
    BoundedServer,
    ConnectionLimits,
    bounded,
    max_connections,
    raise_open_files_limit,
)
from tools.api.console.console_app import ConsoleParts
from tools.api.console.console_settings import console_settings
from tools.api.console.log_views import LogViews
from tools.api.line_limit import LineLimit
from tools.api.middleware import common_log_fields
from tools.api.services.async_content_store import AsyncContentStore
from tools.api.services.audit_service import AuditService
from tools.api.services.results_service import ResultsService, store_in
from tools.api_address import record_address
from tools.end_signals import end_signals
from tools.logs import log_to_stderr
from tools.progress import counted, say

log = logging.getLogger("cjstream.api")
GRACE_S = 4  # for open requests, after shutdown is requested
STOP_TIMEOUT_S = 8.5
CHECK_READY_S = 0.1
SWITCH_INTERVAL_S = 0.001  # a request waits so long for a thread that computes, and does so many times; default: 0.005
LOG_WAITING_S = 10.0


def run(settings: Settings) -> NoReturn:
    """Serve until a signal, then exit; an error is printed as one line and sets the exit code."""
    log_to_stderr(common_fields=common_log_fields(settings.environment), limit=LineLimit())
    for library in ("uvicorn", "httpx"):  # they log each request with its URL
        logging.getLogger(library).setLevel(logging.WARNING)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    connections = max_connections(raise_open_files_limit())
    loop = asyncio.new_event_loop()
    exit_code = 0
    try:
        loop.run_until_complete(_run(settings, connections))
    except CJStreamError as fault:
        if isinstance(fault, Misconfigured):
            log.error("configuration refused", extra={"reason": str(fault)})
        say(f"cjstream: {fault}")
        exit_code = fault.exit_code
    except Exception as fault:
        log.exception("unexpected error")
        say(f"cjstream: the API failed: {type(fault).__name__}")
        exit_code = CJStreamError.exit_code
    sys.stderr.flush()
    os._exit(exit_code)  # a normal exit would wait for a thread that blocks in librdkafka


async def _run(settings: Settings, connections: int) -> None:
    verifier = build_verifier(settings.environment, jwt_settings())
    of_console = console_settings()
    content_store = AsyncContentStore.of(settings)
    listener = _listen(settings.api_host, settings.api_port, "CJSTREAM_API_PORT")
    shutdown = _stop_on_signals()
    codec = await codec_unless_stopped(settings, lambda: shutdown.requested)
    if codec is None:
        return
    upload_log = build_upload_log(settings, shutdown.fail, codec, counted)
    audit_service = AuditService(settings, codec)
    results_service = ResultsService(
        JudgingLog(settings), codec, lambda: store_in(settings.api_dir / "results")
    )
    views = LogViews(settings, codec)
    console = ConsoleParts(of_console, views) if of_console.enabled else None
    app = build_api(
        upload_log, audit_service, results_service, content_store, verifier, settings, console
    )
    limits = ConnectionLimits(connections=connections, keep_alive_s=settings.api_keep_alive_s)
    servers = [_server(app, listener, limits)]
    if settings.metrics_port is not None:
        metrics = _listen(settings.api_host, settings.metrics_port, "CJSTREAM_METRICS_PORT")
        servers.append(
            _server(metrics_app(app), metrics, replace(limits, connections=MIN_CONNECTIONS))
        )
    if settings.environment == "development" and not is_loopback(settings.api_host):
        log.warning(
            "development mode on an address that other machines reach: everybody knows its signing key",
            extra={"address": host_and_port(settings.api_host, settings.api_port)},
        )
    log.info("API runs", extra={"settings": _loggable(settings), "max_connections": connections})
    record_address(settings)
    await upload_log.start()
    tasks = [asyncio.create_task(server.serve([listener])) for server, listener in servers]
    await _log_when_ready(upload_log, shutdown)
    await shutdown.wait()
    log.info("API stops", extra={"fault": str(shutdown.fault or "")})
    threading.Timer(STOP_TIMEOUT_S, _exit_now, [shutdown]).start()
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)
    await upload_log.stop()
    content_store.close()
    audit_service.close()
    results_service.close()
    views.close()
    if shutdown.fault is not None:
        raise shutdown.fault


class _Server(BoundedServer):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: `_run` handles signals, and uvicorn would raise them again after it has stopped."""
        yield


def _server(
    app: FastAPI, listener: socket.socket, limits: ConnectionLimits
) -> tuple[_Server, socket.socket]:
    config = uvicorn.Config(
        app,
        http=bounded(limits),  # type: ignore[arg-type]  # uvicorn only calls it
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=math.ceil(limits.keep_alive_s),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        loop="none",
        workers=1,  # not WEB_CONCURRENCY of the environment
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    return _Server(config), listener


def _listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. Raises Misconfigured if the address is not available."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # IPPROTO_TCP is explicit: without it asyncio leaves Nagle's algorithm on, which costs 40 ms per response
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(ACCEPTED_AT_ONCE)
    except OSError as fault:
        reason = fault.strerror or type(fault).__name__
        raise Misconfigured(
            f"{setting}: cannot listen on {host_and_port(host, port)}: {reason}"
        ) from fault
    listener.setblocking(False)
    return listener


def _stop_on_signals() -> Shutdown:
    loop = asyncio.get_running_loop()
    shutdown = Shutdown(loop)
    for name in end_signals():
        loop.add_signal_handler(name, shutdown.stop)
    return shutdown


async def _log_when_ready(upload_log: UploadLog, shutdown: Shutdown) -> None:
    """Log which checks still fail, until the log is ready; meanwhile requests get a 503 response."""
    started_s, logged_s = time.monotonic(), float("-inf")
    while not shutdown.requested and (
        missing := [name for name, ok in upload_log.ready().items() if not ok]
    ):
        if time.monotonic() - logged_s > LOG_WAITING_S:
            logged_s = time.monotonic()
            log.info("waiting until the API is ready", extra={"for": missing})
        with suppress(TimeoutError):
            await asyncio.wait_for(shutdown.wait(), CHECK_READY_S)
    if not shutdown.requested:
        log.info("API is ready", extra={"took_ms": round((time.monotonic() - started_s) * 1000)})


def _exit_now(shutdown: Shutdown) -> None:
    log.error("the API did not stop in time: the process exits now")
    os._exit(getattr(shutdown.fault, "exit_code", 1))


def _loggable(settings: Settings) -> dict[str, Any]:
    """The settings without the URLs that may contain a password."""
    fields = settings.model_dump(
        mode="json", exclude={"content_url", "schema_registry_url", *GROUPS}
    )
    return {**fields, "content": settings.content.url.partition(":")[0]}
