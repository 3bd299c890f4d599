"""`cjstream worker`: runs one worker in the foreground until SIGTERM or Ctrl-C."""

import asyncio
import logging
import os
import sys
from typing import NoReturn

from processors.settings import Settings
from processors.shutdown import Shutdown
from processors.worker import run_worker
from schemas.errors import CJStreamError
from tools.end_signals import end_signals
from tools.logs import log_to_stderr
from tools.progress import say

log = logging.getLogger("cjstream.worker")


def run(settings: Settings) -> NoReturn:
    """Run a worker until a signal, then exit; a fault is reported as one line and its exit code."""
    log_to_stderr()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every HTTP request
    loop = asyncio.new_event_loop()
    exit_code = 0
    try:
        loop.run_until_complete(_run(settings))
    except CJStreamError as fault:
        say(f"cjstream: {fault}")
        exit_code = fault.exit_code
    except Exception as fault:
        log.exception("worker failed")
        say(f"cjstream: the worker failed: {type(fault).__name__}: {fault}")
        exit_code = CJStreamError.exit_code
    sys.stderr.flush()
    os._exit(
        exit_code
    )  # closing the loop would wait for tasks that Faust leaves if there is no broker


async def _run(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    shutdown = Shutdown(loop)
    for name in end_signals():
        loop.add_signal_handler(name, shutdown.stop)
    await run_worker(settings, shutdown)
