"""Requests to the admin API at a steady rate, each sent when it is due, whether earlier ones have a response or not."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from schemas.errors import CJStreamError
from tools.bench.percentiles import Spread, spread_of

ROOT = "/admin/v1"
SCALE = "swedish_8_anchor"
TEXT = "Write about a rule that you would change, and about the one that you would keep. " * 12
NO_ANSWER = "none"


@dataclass(frozen=True, slots=True)
class Calls:
    """One kind of request: latency from the time when it was due, and the number of responses by status."""

    latency_ms: Spread
    statuses: dict[str, int]


@dataclass(slots=True)
class CallResults:
    """The responses to one kind of request so far."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, took_ms: float, status: str) -> None:
        """Add one response; `status` is NO_ANSWER if none came."""
        self.latencies_ms.append(took_ms)
        self.statuses[status] += 1

    def calls(self) -> Calls:
        """The latency spread and the status counts."""
        return Calls(spread_of(self.latencies_ms), dict(sorted(self.statuses.items())))


@dataclass(frozen=True, slots=True)
class LoadCaller:
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


async def measure(caller: LoadCaller, total: int, rate: float) -> tuple[CallResults, CallResults]:
    """Send `total` requests at `rate` per second; returns the results of reads and of uploads."""
    reads, uploads = CallResults(), CallResults()
    start = asyncio.get_running_loop().time() + 1 / rate

    async def send(number: int) -> None:
        due = start + number / rate
        await _wait_until(due)
        try:
            status = str((await caller.call(number)).status_code)
        except httpx.HTTPError:
            status = NO_ANSWER
        took_s = asyncio.get_running_loop().time() - due
        (uploads if number % 2 else reads).add(took_s * 1000, status)

    await asyncio.gather(*map(send, range(total)))
    return reads, uploads


async def _wait_until(due: float) -> None:
    """Wait until that time of the loop's clock."""
    loop = asyncio.get_running_loop()
    is_due = loop.create_future()
    loop.call_at(due, is_due.set_result, None)
    await is_due
