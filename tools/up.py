"""`cjstream up`: broker, topics, worker, judge and API for development, in the foreground."""

import signal
import subprocess
import threading
from collections.abc import Mapping

from processors.addresses import client_url, host_and_port, loopback_host
from processors.settings import Settings
from schemas.errors import CJStreamError
from tools import broker, topics
from tools.end_signals import end_signals
from tools.processes import command, environment
from tools.progress import say

STOP_S = 15.0
Children = Mapping[str, "subprocess.Popen[bytes]"]


def run(settings: Settings) -> None:
    """Start what does not run yet, wait for a signal to end or the end of a process, then stop what was started."""
    stopping = threading.Event()
    for name in end_signals():
        signal.signal(name, lambda _signal, _frame: stopping.set())
    was_running = broker.status(settings).ready
    broker.start(settings)
    try:
        topics.apply(settings, wait_s=0)
        _run_until(stopping, _start(settings))
    finally:
        if not was_running:
            broker.stop(settings)


def _start(settings: Settings) -> Children:
    metrics = {
        "worker": settings.worker_metrics_address or _free_address(),
        "judge": settings.judge_metrics_address or _free_address(),
    }
    # the simulated judge costs nothing: a batch that is sent before it runs is judged, too
    first_start = settings.judge_first_start if settings.judge else "beginning"
    variables = environment(
        environment="development",
        slot=settings.slot or "up",
        worker_metrics_address=metrics["worker"],
        judge_metrics_address=metrics["judge"],
        judge_first_start=first_start,
    )
    # each in its own session: Ctrl-C then reaches only this process, which stops them in order
    children = {
        name: subprocess.Popen(command(name), env=variables, start_new_session=True)
        for name in ("worker", "judge", "api")
    }
    url = client_url(settings.api_host, settings.api_port)
    say(
        f"console and admin API will be on {url}, for development: `CJSTREAM_ENVIRONMENT=development`"
    )
    say(
        "lets `cjstream admin …` sign in by itself; `cjstream admin token dev` prints a token for other clients"
    )
    for name, address in metrics.items():
        say(f"the {name}'s metrics and health will be on http://{address}")
    return children


def _free_address() -> str:
    return host_and_port(loopback_host(), broker.free_port())


def _run_until(stopping: threading.Event, children: Children) -> None:
    """Let the processes run until `stopping` is set. Raises CJStreamError if one ended by itself."""

    def watch(child: "subprocess.Popen[bytes]") -> None:
        child.wait()
        stopping.set()

    for child in children.values():
        threading.Thread(target=watch, args=(child,), daemon=True).start()
    stopping.wait()
    ended = {name: code for name, child in children.items() if (code := child.poll()) is not None}
    for child in children.values():
        child.terminate()
    for child in children.values():
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
    for name, code in ended.items():
        raise CJStreamError(
            f"{name} ended by itself with exit code {code}: see its log lines above"
        )
