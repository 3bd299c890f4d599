"""The admin API as a real process, called over HTTP."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from processors.settings import Settings
from tests.support.tokens import SECRET, hs256

ROOT = Path(__file__).parents[2]


@dataclass
class Serving:
    """One `cjstream api` and a client of it, an administrator by default."""

    settings: Settings
    log: Path
    child: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One answer."""
        sent = {"Authorization": f"Bearer {hs256()}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.request(method, self.url + path, json=body, headers=sent, timeout=30)

    def answers(self) -> bool:
        """Whether it answers at all."""
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def is_ready(self) -> bool:
        """Whether it says so; it must not have ended."""
        assert self.child.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def terminate(self, seconds: float = 15) -> int:
        """SIGTERM, and the exit code."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(seconds)


@contextmanager
def serving(settings: Settings, **variables: str) -> Iterator[Serving]:
    """A process that is ended, by force if need be; it may not be ready yet."""
    env = {
        name: one for name, one in os.environ.items() if not name.startswith(("CJSTREAM", "JWT"))
    }
    for name, value in settings.model_dump(mode="json", exclude_defaults=True).items():
        told = ",".join(value) if isinstance(value, list) else str(value)
        env[f"CJSTREAM_{name.upper()}"] = told
    env |= {"JWT_SECRET_KEY": SECRET, "PYTHONPATH": str(ROOT), **variables}
    log = settings.data_dir / f"api-{settings.api_port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as written:
        command = [sys.executable, "-m", "tools.cli", "api"]
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=written, stderr=written)
    try:
        yield Serving(settings, log, child)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait(10)
        print(f"--- {log.name}, ended with {child.returncode}\n{log.read_text()[-4000:]}")  # noqa: T201
