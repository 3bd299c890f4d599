"""`cjstream bench api`: how long the admin API takes to read an assignment and to upload a prompt."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import httpx

from processors.settings import Settings
from tools.admin.dev_token import dev_token
from tools.bench.calls import CallResults, Calls, LoadCaller, measure
from tools.bench.installation import Machine, process_settings, this_machine
from tools.broker import free_port
from tools.installation import installation
from tools.processes import Say, api_running

TIMEOUT_S = 30.0
OVERRIDES = {  # overrides the environment, so that no request is refused
    "environment": "development",
    "admin_enabled": True,
    "rate_limit_per_minute": 0,
    "require_if_match": False,
    "metrics_port": None,
    "api_host": "127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class ApiFigures:
    """Latencies of requests, each sent when it was due, whether earlier ones had a response or not."""

    machine: Machine
    processes: int
    rate_per_s: float
    requests: int
    assignments: int
    get_assignment: Calls  # GET /admin/v1/assignments/{id}, with its texts
    upload_prompt: Calls  # POST /admin/v1/student-prompts, a new text each time


def run(say: Say, *, processes: int, assignments: int, rate: float, seconds: float) -> ApiFigures:
    """Send requests at `rate` per second, every other one an upload, to the processes and assignments in turn."""
    machine = this_machine()
    total = max(2, round(rate * seconds))
    assignment_ids = [f"bench-{number}" for number in range(assignments)]
    with ExitStack() as stack:
        settings = stack.enter_context(installation(say, long_lived=True, **OVERRIDES))
        urls = [
            stack.enter_context(api_running(process, say))
            for process in _api_settings(settings, processes)
        ]
        get, upload = asyncio.run(
            _send_requests(
                urls,
                assignment_ids,
                dev_token("bench", environment=settings.environment),
                total,
                rate,
                say,
            )
        )
    return ApiFigures(machine, processes, rate, total, assignments, get.calls(), upload.calls())


def _api_settings(settings: Settings, count: int) -> list[Settings]:
    return [
        process_settings(settings, f"api-{number}", api_port=free_port()) for number in range(count)
    ]


async def _send_requests(
    urls: Sequence[str],
    assignment_ids: Sequence[str],
    token: str,
    total: int,
    rate: float,
    say: Say,
) -> tuple[CallResults, CallResults]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S) as client:
        caller = LoadCaller(client, urls, assignment_ids)
        await caller.prepare()
        say(f"sending {total} requests, {rate:g} per second")
        return await measure(caller, total, rate)
