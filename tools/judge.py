"""`cjstream judge`: runs one judge process in the foreground until SIGTERM or Ctrl-C."""

import logging
from typing import NoReturn

from processors.judge_app import run_judge
from processors.settings import Settings
from tools.foreground import run_until_signal

log = logging.getLogger("cjstream.judging")


def run(settings: Settings) -> NoReturn:
    """Run a judge until a signal, then exit."""
    run_until_signal(settings, "judge", run_judge, log)
