"""The demo's worker and API: real processes, ended by SIGTERM; what they said is shown where anything fails."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from processors.settings import Settings
from processors.waiting import wait_until
from schemas.errors import CJStreamError
from tools.children import command, environment

Tell = Callable[[str], None]
READY_S = 60.0
STOP_S = 15.0
LAST_WORDS = 20  # log lines of a process that failed


@contextmanager
def running(name: str, settings: Settings, tell: Tell) -> "Iterator[subprocess.Popen[bytes]]":
    """The command of that name, as a process with these settings."""
    log = settings.data_dir / f"{name}.log"
    with log.open("wb") as said:
        child = subprocess.Popen(
            command(name),
            env=environment(**told(settings)),
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which ends it
        )
    try:
        tell(f"{name} starts: process {child.pid}")
        yield child
        child.terminate()
        if code := child.wait(STOP_S):
            raise CJStreamError(f"{name} ended with exit code {code}")
    except BaseException as fault:
        if isinstance(fault, Exception):
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


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


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
