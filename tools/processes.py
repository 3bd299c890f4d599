"""Worker and API as real processes of a command; what they said is shown where anything fails."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import httpx

from processors.kafka.bounded_wait import wait_until
from processors.settings import Settings
from schemas.errors import CJStreamError
from tools.children import command, environment

Tell = Callable[[str], None]
READY_S = 60.0
STOP_S = 15.0
LAST_WORDS = 20  # log lines of a process that failed


@contextmanager
def running(name: str, settings: Settings, tell: Tell) -> "Iterator[subprocess.Popen[bytes]]":
    """The command of that name as a process with these settings, ended by SIGTERM.

    Raises CJStreamError where it did not end well.
    """
    with started(name, settings, tell) as child:
        yield child
        child.terminate()
        if code := child.wait(STOP_S):
            raise CJStreamError(f"{name} ended with exit code {code}")


@contextmanager
def started(name: str, settings: Settings, tell: Tell) -> "Iterator[subprocess.Popen[bytes]]":
    """The same for one that may end in any way: killed at the latest when the block is left."""
    log = settings.data_dir / f"{name}.log"
    with log.open("ab") as said:
        child = subprocess.Popen(
            command(name),
            env=environment(**told(settings)),
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends it
        )
    try:
        tell(f"{name} starts: process {child.pid}")
        yield child
    except Exception:
        _show_last_words(name, log, tell)
        raise
    finally:
        child.kill()
        child.wait()


@contextmanager
def api_running(settings: Settings, tell: Tell) -> Iterator[str]:
    """The admin API's address, once it says that it is ready."""
    url = f"http://{settings.api_host}:{settings.api_port}"
    with running("api", settings, tell) as api:

        def is_ready() -> bool:
            if api.poll() is not None:
                raise CJStreamError(f"api ended by itself: {api.returncode}")
            try:
                return httpx.get(f"{url}/readyz").is_success
            except httpx.HTTPError:
                return False

        wait_until(is_ready, seconds=READY_S, what=f"the admin API on {url}")
        yield url


def end_on_sigterm() -> None:
    """Let SIGTERM leave every block that is open, so that what was started in it is ended."""
    signal.signal(signal.SIGTERM, _end)


def _end(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(
        128 + signal.SIGTERM
    )  # not sys.exit: librdkafka's binding trips over its bare int


def told(settings: Settings) -> dict[str, object]:
    """Settings as the environment of another process says them."""
    return {
        name: ",".join(map(str, value)) if isinstance(value, tuple) else value
        for name, value in settings.model_dump().items()
        if value is not None
    }


def _show_last_words(name: str, log: Path, tell: Tell) -> None:
    words = log.read_text(errors="replace").splitlines()[-LAST_WORDS:]
    tell(f"the last words of {name}:" if words else f"{name} said nothing")
    for line in words:
        tell(f"  {line}")
