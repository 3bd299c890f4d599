"""`cjstream worker`: one worker in the foreground, ended by SIGTERM or Ctrl-C."""

import asyncio
import logging
import os
import signal
import sys
from typing import NoReturn

from processors.settings import Settings
from processors.shutdown import Shutdown
from processors.worker import run_worker
from schemas.errors import CJStreamError
from tools.logs import log_to_stderr
from tools.progress import say

log = logging.getLogger("cjstream.worker")


def run(settings: Settings) -> NoReturn:
    """Run a worker until a signal, then end the process: a fault is one line and its exit code."""
    log_to_stderr()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of each request
    loop = asyncio.new_event_loop()
    exit_code = 0
    try:
        loop.run_until_complete(_run(settings))
    except CJStreamError as fault:
        say(f"cjstream: {fault}")
        exit_code = fault.exit_code
    except Exception as fault:
        log.exception("worker cannot go on")
        say(f"cjstream: the worker cannot go on: {type(fault).__name__}: {fault}")
        exit_code = CJStreamError.exit_code
    sys.stderr.flush()
    os._exit(exit_code)  # closing the loop would wait for tasks that Faust leaves without a broker


async def _run(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    shutdown = Shutdown(loop)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, shutdown.stop)
    await run_worker(settings, shutdown)
