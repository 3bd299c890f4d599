"""`cjstream bench api`: how long the admin API takes to read an assignment and to upload a prompt."""

import asyncio
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import httpx

from processors.settings import Settings
from schemas.errors import CJStreamError
from tools.bench.calls import CallResults, Calls, LoadCaller, measured
from tools.bench.installation import Machine, installation, process_of, this_machine
from tools.broker import free_port
from tools.children import command, environment
from tools.processes import Say, api_running, settings_values

TIMEOUT_S = 30.0
OPEN = {  # whatever the environment says: nothing in the way of the requests
    "environment": "development",
    "admin_enabled": True,
    "rate_limit_per_minute": 0,
    "require_if_match": False,
    "metrics_port": None,
    "api_host": "127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class ApiFigures:
    """Requests that were sent when they were due, whether the ones before had been answered or not."""

    machine: Machine
    processes: int
    rate_per_s: float
    requests: int
    assignments: int
    get_assignment: Calls  # GET /admin/v1/assignments/{id}, with its texts
    upload_prompt: Calls  # POST /admin/v1/student-prompts, a new text each time


def run(tell: Say, *, processes: int, assignments: int, rate: float, seconds: float) -> ApiFigures:
    """Send requests at that rate, every second one an upload, to each process and assignment in turn."""
    machine = this_machine()
    total = max(2, round(rate * seconds))
    names = [f"bench-{number}" for number in range(assignments)]
    with ExitStack() as stack:
        settings = stack.enter_context(installation(tell, **OPEN))
        urls = [
            stack.enter_context(api_running(one, tell)) for one in _processes(settings, processes)
        ]
        get, upload = asyncio.run(_called(urls, names, _token(settings), total, rate, tell))
    return ApiFigures(machine, processes, rate, total, assignments, get.calls(), upload.calls())


def _processes(settings: Settings, count: int) -> list[Settings]:
    return [process_of(settings, f"api-{number}", api_port=free_port()) for number in range(count)]


def _token(settings: Settings) -> str:
    asked = command("admin", "token", "dev", "--subject", "bench")
    variables = environment(**settings_values(settings))
    done = subprocess.run(asked, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CJStreamError(f"no token for development: {done.stderr.strip()}")
    return done.stdout.strip()


async def _called(
    urls: Sequence[str], names: Sequence[str], token: str, total: int, rate: float, tell: Say
) -> tuple[CallResults, CallResults]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S) as client:
        caller = LoadCaller(client, urls, names)
        await caller.prepare()
        tell(f"{total} requests, {rate:g} a second")
        return await measured(caller, total, rate)
