"""A provider whose limit of calls moves, in virtual time: how many calls it answers to a fixed or a learned limit."""

import heapq
import random
from dataclasses import dataclass

from processors.judging.endpoints import Endpoint, new_endpoint
from processors.judging.judges.judge import Answered, Failed

MAXIMUM = 64
ANSWER = Answered(
    winner="first",
    confidence=None,
    justification=None,
    model="m",
    provider_request_id=None,
    usage=None,
    response=b"{}",
)


@dataclass(frozen=True)
class MovingLimit:
    """The calls that a provider takes at a time, in periods of equal length; what it does with further ones."""

    capacities: tuple[int, ...]
    period_ms: int
    answer_ms: int
    retry_after_ms: int | None
    refuse_ms: int = 20

    @property
    def duration_ms(self) -> int:
        """The time of all periods."""
        return len(self.capacities) * self.period_ms

    def capacity_at(self, now_ms: int) -> int:
        """How many calls it takes at a time now."""
        return self.capacities[min(now_ms // self.period_ms, len(self.capacities) - 1)]


def random_limit(seed: int) -> MovingLimit:
    """A provider whose limit moves up and down at random, by less than a half each time."""
    chance = random.Random(seed)
    capacities = [chance.randint(6, 40)]
    for _ in range(5):
        moved = round(capacities[-1] * chance.uniform(0.6, 1.5))
        capacities.append(max(4, min(48, moved)))
    return MovingLimit(
        tuple(capacities),
        period_ms=30_000,
        answer_ms=chance.randint(300, 3000),
        retry_after_ms=chance.choice([200, 500, 1000]),
    )


def answered_calls(provider: MovingLimit, fixed: int | None, seed: int) -> int:
    """Calls answered to a caller that always has more; with a fixed limit it obeys Retry-After, too."""
    chance = random.Random(seed)
    endpoint = new_endpoint(MAXIMUM)
    running: list[tuple[int, int, int, bool]] = []  # end, number, start, is refused
    busy = answered = number = now_ms = 0
    while now_ms < provider.duration_ms:
        free = endpoint.slots(now_ms)
        if fixed is not None:
            free = fixed - len(running) if now_ms >= endpoint.closed_until_ms else 0
        for _ in range(free):
            is_refused = busy >= provider.capacity_at(now_ms)
            busy += not is_refused
            took_ms = round(provider.answer_ms * chance.uniform(0.5, 1.5))
            end_ms = now_ms + (provider.refuse_ms if is_refused else took_ms)
            heapq.heappush(running, (end_ms, number, now_ms, is_refused))
            number += 1
        endpoint = endpoint.taken(max(0, free))
        now_ms = running[0][0] if running else endpoint.closed_until_ms
        while running and running[0][0] <= now_ms:
            _, _, asked_at_ms, is_refused = heapq.heappop(running)
            endpoint = _after(endpoint, provider, is_refused, asked_at_ms, now_ms, chance)
            busy -= not is_refused
            answered += not is_refused
    return answered


def _after(
    endpoint: Endpoint,
    provider: MovingLimit,
    is_refused: bool,
    asked_at_ms: int,
    now_ms: int,
    chance: random.Random,
) -> Endpoint:
    refusal = Failed(reason="rate_limited", http_status=429, retry_after_ms=provider.retry_after_ms)
    outcome = refusal if is_refused else ANSWER
    return endpoint.ended(outcome, asked_at_ms, now_ms, chance.uniform(0.5, 1.0))
