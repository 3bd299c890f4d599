"""A judge whose watchdog reacts early; the part named on the command line, if any, stalls."""

import asyncio
import os
import sys
import threading
from datetime import UTC, datetime

import processors.judge_app
from processors.judge_app import JudgeProcess, build_judge, run_judge
from processors.judging.cycle.cycle import ToDo
from processors.judging.run_items import FindAnchors
from processors.settings import Settings, settings_from_environment
from processors.shutdown import Shutdown
from schemas.codec import Codec
from schemas.errors import CJStreamError
from schemas.models import Catalogue
from tools.logs import log_to_stderr
from tools.models.catalogue import read_catalogue
from tools.progress import say

COMMAND = ("-m", "tests.faults.stalled_judge")
STALLED_CHECKS_SHORT = 8
CYCLES = 20  # before it stalls


def stuck_in_the_content_store() -> ToDo:
    """Never returns, as a call into a library that hangs."""
    threading.Event().wait()
    return ToDo()


def build_stalled_judge(
    part: str, settings: Settings, codec: Codec, known: Catalogue, find_anchors: FindAnchors
) -> JudgeProcess:
    """A judge process with one part replaced by one that stalls."""
    process = build_judge(settings, codec, known, find_anchors)
    cycle = process.cycle
    run = cycle.run
    match part:
        case "cycle":

            def run_at_first() -> ToDo:
                return run() if cycle.begun < CYCLES else stuck_in_the_content_store()

            cycle.run = run_at_first  # type: ignore[method-assign]
        case "member":
            process.consumer.join = lambda: None  # type: ignore[method-assign]
    return process


async def main(part: str = "") -> int:
    """Run until the watchdog ends the judge; returns the exit code."""
    log_to_stderr()
    settings = settings_from_environment()
    vars(processors.judge_app)["build_judge"] = lambda *given: build_stalled_judge(part, *given)
    catalogue = read_catalogue(settings.models_file, datetime.now(UTC).date())
    shutdown = Shutdown(asyncio.get_running_loop())
    try:
        await run_judge(settings, shutdown, catalogue, STALLED_CHECKS_SHORT)
    except CJStreamError as fault:
        say(f"cjstream: {fault}")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    code = asyncio.new_event_loop().run_until_complete(main(*sys.argv[1:]))
    sys.stderr.flush()
    os._exit(code)
