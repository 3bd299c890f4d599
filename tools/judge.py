"""`cjstream judge`: runs one judge process in the foreground until SIGTERM or Ctrl-C."""

import logging
from datetime import UTC, datetime
from functools import partial
from typing import NoReturn

from processors.judge_app import run_judge
from processors.settings import Settings
from tools.foreground import run_until_signal
from tools.models.catalogue import read_catalogue

log = logging.getLogger("cjstream.judging")


def run(settings: Settings) -> NoReturn:
    """Run a judge until a signal, then exit. Raises Misconfigured."""
    catalogue = read_catalogue(settings.models_file, datetime.now(UTC).date())
    run_until_signal(settings, "judge", partial(run_judge, catalogue=catalogue), log)
