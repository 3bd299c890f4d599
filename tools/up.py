"""`cjstream up`: broker, topics, worker, judge and API for development, in the foreground."""

import fcntl
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from processors.addresses import client_url, host_and_port, loopback_host
from processors.settings import Settings
from schemas.errors import CJStreamError, Misconfigured
from tools import broker, topics
from tools.end_signals import end_signals
from tools.processes import child_command, command, environment
from tools.progress import say

LOCK = "up.lock"
STOP_S = 15.0
AT_END_OF_STDIN = 'read -r _ || exec "$@"'  # a shell script
Children = Mapping[str, "subprocess.Popen[bytes]"]


def run(settings: Settings) -> None:
    """Start what does not run yet, wait for a signal to end or the end of a process, then stop what was started."""
    stopping = threading.Event()
    for name in end_signals():
        signal.signal(name, lambda _signal, _frame: stopping.set())
    with _only_one(settings) as lock, _broker_running(settings, lock):
        topics.apply(settings, wait_s=0)
        _run_until(stopping, _start(settings, lock))


@contextmanager
def _only_one(settings: Settings) -> Iterator[int]:
    """Keep the data folder for this `up`; the worker of another would end this one's. Raises Misconfigured.

    Yields the lock's descriptor; it is locked until the last process that has it ends.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (settings.data_dir / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise Misconfigured(
                f"CJSTREAM_DATA_DIR: another `cjstream up` runs with {settings.data_dir.resolve()}"
            ) from fault
        yield lock.fileno()


@contextmanager
def _broker_running(settings: Settings, lock: int) -> Iterator[None]:
    """Start the broker unless it runs; then it is stopped after the block, or if this process is killed in it."""
    if broker.status(settings).ready:
        broker.start(settings)  # which refuses another address
        yield
        return
    with subprocess.Popen(  # whose stdin ends with the block
        ["/bin/sh", "-c", AT_END_OF_STDIN, "sh", *command("broker", "stop")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
        pass_fds=(lock,),
    ) as stopper:
        broker.start(settings)
        yield
    if stopper.returncode:
        raise CJStreamError("the broker could not be stopped: see above")


def _start(settings: Settings, lock: int) -> Children:
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
        name: subprocess.Popen(
            child_command(name),
            stdin=subprocess.PIPE,
            env=variables,
            start_new_session=True,
            pass_fds=(lock,),
        )
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
        child.communicate()  # closes the pipe
    for name, code in ended.items():
        raise CJStreamError(
            f"{name} ended by itself with exit code {code}: see its log lines above"
        )
