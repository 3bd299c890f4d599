"""`cjstream worker`: runs one worker in the foreground until SIGTERM or Ctrl-C."""

import logging
import sys
from functools import partial
from typing import NoReturn

from processors.settings import Settings
from processors.worker import run_worker
from tools.foreground import run_until_signal
from tools.progress import counted

log = logging.getLogger("cjstream.worker")
# Compiled functions and clients let go of the interpreter's lock several times a batch, and then wait so long for a
# thread that computes; default: 0.005
SWITCH_INTERVAL_S = 0.001


def run(settings: Settings) -> NoReturn:
    """Run a worker until a signal, then exit."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    run_until_signal(settings, "worker", partial(run_worker, display=counted), log)
