"""`cjstream worker`: one worker in the foreground, ended by SIGTERM or Ctrl-C."""

import asyncio
import logging
import os
import signal
import threading

from processors.settings import Settings
from processors.worker import WorkerEnd, run_worker
from schemas.errors import CJStreamError
from tools.logs import log_to_stderr

log = logging.getLogger("cjstream.worker")
STOP_S = 9.0


def run(settings: Settings) -> None:
    """Run a worker until a signal. Raises the fault that ended it."""
    log_to_stderr()
    try:
        asyncio.run(_run(settings))
    except CJStreamError:
        raise
    except Exception as fault:
        log.exception("worker cannot go on")
        raise CJStreamError(f"the worker cannot go on: {type(fault).__name__}: {fault}") from fault


async def _run(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    end = WorkerEnd(loop)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, _stop, end)
    await run_worker(settings, end)


def _stop(end: WorkerEnd) -> None:
    end.stop()
    # a thread inside a C call holds the exit; what it leaves open, the next start's fencing ends
    last_resort = threading.Timer(STOP_S, _give_up)
    last_resort.daemon = True
    last_resort.start()


def _give_up() -> None:
    log.error("worker did not stop in time: the process ends", extra={"waited_s": STOP_S})
    os._exit(1)
