"""`cjstream bench api`: how long the admin API takes to read an assignment and to upload a prompt.

Each request is sent when it is due, whether earlier ones had a response or not; its latency starts when it is due.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import httpx

from schemas.errors import CJStreamError
from tools.admin.dev_token import dev_token
from tools.bench.percentiles import Figures, spread_of
from tools.bench.processes import process_settings
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
}
ROOT = "/admin/v1"
SCALE = "swedish_8_anchor"
TEXT = "Write about a rule that you would change, and about the one that you would keep. " * 12
NO_ANSWER = "none"
Results = list[tuple[float, str]]  # latency in ms, and the status


def run(say: Say, *, processes: int, assignments: int, rate: float, seconds: float) -> Figures:
    """Send requests at `rate` per second, every other one an upload, to the processes and assignments in turn."""
    total = max(2, round(rate * seconds))
    assignment_ids = [f"bench-{number}" for number in range(assignments)]
    with ExitStack() as stack:
        settings = stack.enter_context(installation(say, **OVERRIDES))
        urls = [
            stack.enter_context(api_running(process, say))
            for process in (
                process_settings(settings, f"api-{number}", api_port=free_port())
                for number in range(processes)
            )
        ]
        token = dev_token("bench", environment=settings.environment)
        reads, uploads = asyncio.run(_measure(urls, assignment_ids, token, total, rate, say))
    return {
        "processes": processes,
        "rate_per_s": rate,
        "requests": total,
        "assignments": assignments,
        "get_assignment": _calls(reads),  # GET /admin/v1/assignments/{id}, with its texts
        "upload_prompt": _calls(uploads),  # POST /admin/v1/student-prompts, a new text each time
    }


def _calls(results: Results) -> Figures:
    statuses = Counter(status for _, status in results)
    return {
        "latency_ms": spread_of(took_ms for took_ms, _ in results),
        "statuses": dict(sorted(statuses.items())),
    }


async def _measure(
    urls: Sequence[str],
    assignment_ids: Sequence[str],
    token: str,
    total: int,
    rate: float,
    say: Say,
) -> tuple[Results, Results]:
    """Send `total` requests at `rate` per second; returns the results of reads and of uploads."""
    headers = {"Authorization": f"Bearer {token}"}
    reads, uploads = Results(), Results()
    async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S) as client:
        caller = Caller(client, urls, assignment_ids)
        await caller.prepare()
        say(f"sending {total} requests, {rate:g} per second")
        loop = asyncio.get_running_loop()
        start = loop.time() + 1 / rate

        async def send(number: int) -> None:
            due = start + number / rate
            await _wait_until(due)
            try:
                status = str((await caller.call(number)).status_code)
            except httpx.HTTPError:
                status = NO_ANSWER
            (uploads if number % 2 else reads).append(((loop.time() - due) * 1000, status))

        await asyncio.gather(*map(send, range(total)))
    return reads, uploads


async def _wait_until(due: float) -> None:
    """Wait until that time of the loop's clock."""
    loop = asyncio.get_running_loop()
    is_due = loop.create_future()
    loop.call_at(due, is_due.set_result, None)
    await is_due


@dataclass(frozen=True, slots=True)
class Caller:
    """Sends requests to the processes and for the assignments in turn."""

    client: httpx.AsyncClient
    urls: Sequence[str]
    assignments: Sequence[str]

    async def prepare(self) -> None:
        """Create the assignments, and call every route once before anything is measured."""
        for assignment_id in self.assignments:
            body = {"assignment_id": assignment_id, "instructions_text": TEXT, "grade_scale": SCALE}
            _require(await self.client.post(f"{self.urls[0]}{ROOT}/assignments", json=body))
        for number in range(2 * len(self.urls) * len(self.assignments)):
            _require(await self.call(-1 - number))

    async def call(self, number: int) -> httpx.Response:
        """Upload a unique text if the number is odd, else read the assignment."""
        turn = number // 2
        root = self.urls[turn % len(self.urls)] + ROOT
        assignment_id = self.assignments[turn // len(self.urls) % len(self.assignments)]
        if number % 2:
            body = {"assignment_id": assignment_id, "prompt_text": f"{number}: {TEXT}"}
            return await self.client.post(f"{root}/student-prompts", json=body)
        return await self.client.get(f"{root}/assignments/{assignment_id}")


def _require(response: httpx.Response) -> None:
    if not response.is_success:
        raise CJStreamError(f"{response.request.url.path} returned {response.status_code}")
