"""Calls of the admin API at a steady rate, each sent when it is due, whether those before are answered or not."""

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
    """One kind of request: how long from the moment it was due, and how often each status came."""

    latency_ms: Spread
    statuses: dict[str, int]


@dataclass(slots=True)
class CallResults:
    """What came back of one kind of request."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, took_ms: float, status: str) -> None:
        """One answer, or none."""
        self.latencies_ms.append(took_ms)
        self.statuses[status] += 1

    def calls(self) -> Calls:
        """The sum of it."""
        return Calls(spread_of(self.latencies_ms), dict(sorted(self.statuses.items())))


@dataclass(frozen=True, slots=True)
class LoadCaller:
    """Calls every process for every assignment in turn."""

    client: httpx.AsyncClient
    urls: Sequence[str]
    assignments: Sequence[str]

    async def prepare(self) -> None:
        """Make the assignments, and have every route answer once before anything is measured."""
        for name in self.assignments:
            made = {"assignment_id": name, "instructions_text": TEXT, "grade_scale": SCALE}
            _require(await self.client.post(f"{self.urls[0]}{ROOT}/assignments", json=made))
        for number in range(2 * len(self.urls) * len(self.assignments)):
            _require(await self.call(-1 - number))

    async def call(self, number: int) -> httpx.Response:
        """Upload a text of its own where the number is odd, else read."""
        turn = number // 2
        root = self.urls[turn % len(self.urls)] + ROOT
        name = self.assignments[turn // len(self.urls) % len(self.assignments)]
        if number % 2:
            new = {"assignment_id": name, "prompt_text": f"{number}: {TEXT}"}
            return await self.client.post(f"{root}/student-prompts", json=new)
        return await self.client.get(f"{root}/assignments/{name}")


def _require(response: httpx.Response) -> None:
    if not response.is_success:
        raise CJStreamError(f"{response.request.url.path} was answered {response.status_code}")


async def measured(caller: LoadCaller, total: int, rate: float) -> tuple[CallResults, CallResults]:
    """What was heard of reading and of uploading."""
    get, upload = CallResults(), CallResults()
    begun = asyncio.get_running_loop().time() + 1 / rate

    async def one(number: int) -> None:
        due = begun + number / rate
        await _moment(due)
        try:
            status = str((await caller.call(number)).status_code)
        except httpx.HTTPError:
            status = NO_ANSWER
        took_s = asyncio.get_running_loop().time() - due
        (upload if number % 2 else get).add(took_s * 1000, status)

    await asyncio.gather(*map(one, range(total)))
    return get, upload


async def _moment(due: float) -> None:
    """Return then, by the loop's clock."""
    loop = asyncio.get_running_loop()
    come = loop.create_future()
    loop.call_at(due, come.set_result, None)
    await come
