"""Runs the admin API as a real process and calls it over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from processors.settings import Settings
from tests.faults.running import Process
from tests.support.tokens import SECRET, hs256
from tests.support.until import until
from tools.broker import free_port


class Serving(Process):
    """One `cjstream api` process and an HTTP client for it, by default with an administrator's token."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """The response to one request; header names have _ for -."""
        request_headers = {"Authorization": f"Bearer {hs256()}"}
        request_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = self.url + path
        return httpx.request(method, url, json=body, headers=request_headers, timeout=30)

    def answers(self, path: str = "/healthz") -> bool:
        """Whether the process responds with 200."""
        try:
            return httpx.get(self.url + path, timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def is_ready(self) -> bool:
        """Whether /readyz reports that it is ready; fails if the process has exited."""
        assert self.is_alive, self.log.read_text()
        return self.answers("/readyz")


@contextmanager
def ready_api(settings: Settings, **overrides: object) -> Iterator[Serving]:
    """An API process of this installation that is ready, on a free port."""
    with serving(settings.model_copy(update={"api_port": free_port(), **overrides})) as api:
        until(api.is_ready, 150)
        yield api


@contextmanager
def serving(settings: Settings, **variables: str) -> Iterator[Serving]:
    """Start the process, which may not be ready yet; at the end it is killed if it still runs."""
    log = settings.data_dir / f"api-{settings.api_port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ("-m", "tools", "api")
    api = Serving(settings, log, command, {"JWT_SECRET_KEY": SECRET, **variables})
    api.start()
    try:
        yield api
    finally:
        api.end()
