"""The research runner, which kills itself at a planned point: after a step was noted, begun or acted on.

The point is in the environment of one process. The product has no code for it but the calls that say where it is.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from itertools import count
from typing import Any

import tools.runner.services
from processors.settings import Settings
from tools.cli import main
from tools.runner.content_client import ContentClient
from tools.runner.runner_log import RunLog
from tools.runner.steps import Services

VARIABLE = "KILL_AT"
MODULE = ("-m", "tests.faults.killed_runner")
MID_TEXTS = "texts, the fifth sent"
STEPS = ("texts", "assignment", "anchors", "manifest", "gate", "offsets", "request")
POINTS = (
    "planned done",
    *(f"{step} {state}" for step in STEPS for state in ("begun", "acted", "done")),
    MID_TEXTS,
    "followed",
    "products done",
)
# before anything is sent; among the texts; before and after the request is published; before and after the artefact
KINDS = ("planned done", MID_TEXTS, "request begun", "request acted", "followed", "products done")


def kill_at(planned: str, point: str) -> None:
    """Kill this process if the point is the planned one."""
    if point == planned:
        os.kill(os.getpid(), signal.SIGKILL)


class KillingClient(ContentClient):
    """A content client that kills its process after its fifth text; the first one is preflight's."""

    __slots__ = ()
    sent = count(1)

    def store(self, content: bytes, *arguments: Any) -> str:
        """Store a text, then maybe die."""
        storage_id = super().store(content, *arguments)
        if next(self.sent) == 6:
            kill_at(os.environ[VARIABLE], MID_TEXTS)
        return storage_id


def killing(content: ContentClient) -> KillingClient:
    """The same client, which kills its process."""
    return KillingClient(**{one.name: getattr(content, one.name) for one in fields(content)})


def run() -> None:
    """Run the command line with the plan in the environment."""
    connected = tools.runner.services.connected
    reached = partial(kill_at, os.environ[VARIABLE])

    @contextmanager
    def with_plan(settings: Settings, base_url: str | None, log: RunLog) -> Iterator[Services]:
        with connected(settings, base_url, log, reached) as services:
            yield replace(services, content=killing(services.content))

    vars(tools.runner.services)["connected"] = with_plan
    main()


if __name__ == "__main__":
    run()
