"""`cjstream worker`: runs one worker in the foreground until SIGTERM or Ctrl-C."""

import logging
from functools import partial
from typing import NoReturn

from processors.settings import Settings
from processors.worker import run_worker
from tools.foreground import run_until_signal
from tools.progress import counted

log = logging.getLogger("cjstream.worker")


def run(settings: Settings) -> NoReturn:
    """Run a worker until a signal, then exit."""
    run_until_signal(settings, "worker", partial(run_worker, display=counted), log)
