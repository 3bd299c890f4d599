"""`cjstream judge`: runs one judge process in the foreground until SIGTERM or Ctrl-C."""

import asyncio
import logging
import os
import sys
from typing import NoReturn

from processors.judge_app import run_judge
from processors.settings import Settings
from processors.shutdown import Shutdown
from schemas.errors import CJStreamError
from tools.end_signals import end_signals
from tools.logs import log_to_stderr
from tools.progress import say

log = logging.getLogger("cjstream.judging")


def run(settings: Settings) -> NoReturn:
    """Run a judge until a signal, then exit; a fault is reported as one line and its exit code."""
    log_to_stderr()
    exit_code = 0
    try:
        asyncio.run(_run(settings))
    except CJStreamError as fault:
        say(f"cjstream: {fault}")
        exit_code = fault.exit_code
    except Exception as fault:
        log.exception("judge failed")
        say(f"cjstream: the judge failed: {type(fault).__name__}: {fault}")
        exit_code = CJStreamError.exit_code
    sys.stderr.flush()
    os._exit(exit_code)


async def _run(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    shutdown = Shutdown(loop)
    for name in end_signals():
        loop.add_signal_handler(name, shutdown.stop)
    await run_judge(settings, shutdown)
