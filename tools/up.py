"""`cjstream up`: broker, topics and worker for development, in the foreground."""

import signal
import subprocess
import threading

from processors.settings import Settings
from schemas.errors import CJStreamError
from tools import broker, topics
from tools.children import command, environment

STOP_S = 15.0


def run(settings: Settings) -> None:
    """Start what does not run yet, wait for Ctrl-C, SIGTERM or the worker's end, stop what was started."""
    stopping = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda _signal, _frame: stopping.set())
    was_running = broker.status(settings).ready
    broker.start(settings)
    try:
        topics.applied(settings, wait_s=0)
        _work_until(stopping, settings.slot or "up")
    finally:
        if not was_running:
            broker.stop(settings)


def _work_until(stopping: threading.Event, slot: str) -> None:
    """Run a worker until told to stop. Raises CJStreamError where it ended by itself."""
    # a session of its own, so that Ctrl-C reaches it once and in order
    worker = subprocess.Popen(command("worker"), env=environment(slot=slot), start_new_session=True)

    def watch() -> None:
        worker.wait()
        stopping.set()

    threading.Thread(target=watch, daemon=True).start()
    stopping.wait()
    ended = worker.poll()
    if ended is not None:
        raise CJStreamError(
            f"the worker ended by itself with exit code {ended}: see its lines above"
        )
    worker.terminate()
    try:
        worker.wait(STOP_S)
    except subprocess.TimeoutExpired:
        worker.kill()
