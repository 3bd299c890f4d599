"""Runs the admin API as a real process and calls it over HTTP."""

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
    """One `cjstream api` process and an HTTP client for it, by default with an administrator's token."""

    settings: Settings
    log: Path
    child: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """The response to one request; header names have _ for -."""
        request_headers = {"Authorization": f"Bearer {hs256()}"}
        request_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = self.url + path
        return httpx.request(method, url, json=body, headers=request_headers, timeout=30)

    def answers(self) -> bool:
        """Whether the process responds to requests."""
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def is_ready(self) -> bool:
        """Whether /readyz reports that it is ready; fails if the process has exited."""
        assert self.child.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def terminate(self, timeout_s: float = 15) -> int:
        """Send SIGTERM; returns the exit code."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(timeout_s)


@contextmanager
def serving(settings: Settings, **variables: str) -> Iterator[Serving]:
    """Start the process, which may not be ready yet; at the end it is killed if it still runs."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CJSTREAM", "JWT"))
    }
    for name, value in settings.model_dump(mode="json", exclude_defaults=True).items():
        text = ",".join(value) if isinstance(value, list) else str(value)
        env[f"CJSTREAM_{name.upper()}"] = text
    env |= {"JWT_SECRET_KEY": SECRET, "PYTHONPATH": str(ROOT), **variables}
    log = settings.data_dir / f"api-{settings.api_port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        command = [sys.executable, "-m", "tools.cli", "api"]
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
    try:
        yield Serving(settings, log, child)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait(10)
        print(f"--- {log.name}, exit code {child.returncode}\n{log.read_text()[-4000:]}")  # noqa: T201
