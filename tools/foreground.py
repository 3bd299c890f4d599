"""Runs a long-running process in the foreground until SIGTERM or Ctrl-C: a worker, a judge."""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

from processors.settings import Settings
from processors.shutdown import Shutdown
from schemas.errors import CJStreamError
from tools.end_signals import end_signals
from tools.logs import log_to_stderr
from tools.progress import say
from tools.reporting import explained


def run_until_signal(
    settings: Settings,
    name: str,
    run: Callable[[Settings, Shutdown], Awaitable[None]],
    log: logging.Logger,
) -> NoReturn:
    """Run it until a signal, then exit; a fault is reported as one line and its exit code."""
    fields = {"service": f"cjstream-{name}", "slot": settings.slot}
    log_to_stderr(common_fields=lambda: fields)
    for library in ("httpx", "httpx2"):
        logging.getLogger(library).setLevel(logging.WARNING)  # they log every HTTP request
    loop = asyncio.new_event_loop()
    exit_code = 0
    try:
        loop.run_until_complete(_run(settings, run))
    except CJStreamError as fault:
        say(f"cjstream: {explained(fault)}")
        exit_code = fault.exit_code
    except Exception as fault:
        log.exception("%s failed", name)
        say(f"cjstream: the {name} failed: {type(fault).__name__}: {fault}")
        exit_code = CJStreamError.exit_code
    sys.stderr.flush()
    # closing the loop would wait for tasks that Faust leaves if there is no broker
    os._exit(exit_code)


async def _run(settings: Settings, run: Callable[[Settings, Shutdown], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    shutdown = Shutdown(loop)
    for name in end_signals():
        loop.add_signal_handler(name, shutdown.stop)
    await run(settings, shutdown)
