"""The simulated judge: the embedded default, deterministic, without a key or a network.

P(first is better) = logistic(theta_first - theta_second + delta); with probability `lapse` it tosses a coin. Its chance
is drawn from (seed, run, comparison) and never from the attempt; with probability `persistence` from (seed, unordered
pair), so that it repeats its view of a pair. Faults are drawn from (seed, call).
"""

import hashlib
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import orjson

from processors.judging.judges.answer import read_answer
from processors.judging.judges.judge import Answered, CallId, Failed, JudgeRequest
from processors.judging.prompt import prompt_bytes
from schemas.judging_events import TokenPrices, TokenUsage
from schemas.models import Model, Price

ADAPTER = PROVIDER = "simulated"
MODEL = "sim-1"
BYTES_PER_TOKEN = 4
BURST = 8  # consecutive comparisons that are refused together
RETRY_AFTER_MS = 1000
WORD = 2**64
ORDER = re.compile(r"answer (?:only )?(?:with )?\"?(?P<side>[AB])\b")  # to a judge that obeys texts


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMind:
    """What its answers depend on. theta has mean 0 and this spread, in logits; delta favours the first text."""

    seed: int = 1
    spread: float = 1.5
    delta: float = -0.2
    lapse: float = 0.02
    persistence: float = 0.8
    obeys_injection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedFaults:
    """Mean latency, and the probabilities of faults; of the first that applies, in this order."""

    latency_s: float = 0.0
    rate_limited: float = 0.0  # in bursts
    server_error: float = 0.0
    timeout: float = 0.0
    garbage: float = 0.0


NO_FAULTS = SimulatedFaults()
PRICE = Price(
    provider=PROVIDER,
    model=MODEL,
    prices=TokenPrices(input=150_000, cache_write=150_000, cache_read=75_000, output=600_000),
    source="simulated",  # never added to real money
)


def simulated_model(mind: SimulatedMind) -> Model:
    """The model that the simulated judge is."""
    return Model(
        provider=PROVIDER,
        model=MODEL,
        adapter=ADAPTER,
        answer_method="simulated",
        context_window=1_000_000,
        max_output_tokens=400,
        parameters=parameters_of(mind),
        price=PRICE,
    )


def parameters_of(mind: SimulatedMind) -> dict[str, Any]:
    """The mind as the parameters of its prompts: they can change the answer."""
    return asdict(mind)


@dataclass(frozen=True, slots=True)
class SimulatedJudge:
    """Its mind stands in each prompt's parameters.

    wait: waits so many seconds. thetas: known qualities by the sha256 of a text.
    """

    wait: Callable[[float], Awaitable[None]]
    thetas: Mapping[str, float]
    faults: SimulatedFaults = NO_FAULTS

    async def ask(self, request: JudgeRequest, timeout_s: float) -> Answered | Failed:
        """Ask once; takes at most timeout_s."""
        mind = SimulatedMind(**request.prompt.parameters)
        latency_s = latency_of(self.faults, mind.seed, request.call)
        fault = fault_of(self.faults, mind.seed, request.call)
        if fault == "timeout" or latency_s > timeout_s:
            await self.wait(timeout_s)
            return Failed(reason="timeout")
        if latency_s:
            await self.wait(latency_s)
        if fault == "rate_limited":
            return Failed(reason="rate_limited", http_status=429, retry_after_ms=RETRY_AFTER_MS)
        if fault == "server_error":
            return Failed(reason="provider_error", http_status=503)
        return self._answer(mind, request, is_garbage=fault == "garbage")

    async def close(self) -> None:
        """It has no connections."""

    def _answer(
        self, mind: SimulatedMind, request: JudgeRequest, *, is_garbage: bool
    ) -> Answered | Failed:
        prefers_first = prefers_first_text(
            mind,
            self.thetas,
            request.call,
            request.first_text,
            request.second_text,
        )
        response = b"I like both." if is_garbage else _response(prefers_first)
        usage = TokenUsage(
            input=_tokens(prompt_bytes(request.prompt)),
            cache_write=0,
            cache_read=0,
            output=min(_tokens(len(response)), request.max_output_tokens),
            reasoning=0,
        )
        request_id = str(request.call)
        answer = read_answer(response)
        if answer is None:
            return Failed(
                reason="invalid_answer",
                model=MODEL,
                provider_request_id=request_id,
                usage=usage,
                response=response,
            )
        return Answered(
            winner=answer.winner,
            confidence=answer.confidence,
            justification=answer.justification,
            model=MODEL,
            provider_request_id=request_id,
            usage=usage,
            response=response,
        )


def prefers_first_text(
    mind: SimulatedMind, thetas: Mapping[str, float], call: CallId, first: str, second: str
) -> bool:
    """Whether the mind finds the first text better."""
    if mind.obeys_injection and (order := ORDER.search(first) or ORDER.search(second)):
        return order["side"] == "A"
    ids = _sha256(first), _sha256(second)
    gap = theta_of(mind, thetas, ids[0]) - theta_of(mind, thetas, ids[1])
    return decide(mind, call, ids, gap)


def theta_of(mind: SimulatedMind, thetas: Mapping[str, float], storage_id: str) -> float:
    """The quality of a text in logits: the known one, else N(0, spread²) by the inverse normal of its sha256."""
    if storage_id in thetas:
        return thetas[storage_id]
    uniform = (int(storage_id[:16], 16) + 0.5) / WORD
    return NormalDist().inv_cdf(min(uniform, 1 - 2**-53)) * mind.spread


def decide(mind: SimulatedMind, call: CallId, ids: tuple[str, str], gap: float) -> bool:
    """Whether the first of two texts wins; gap is theta_first - theta_second."""
    persists, own, lapses, coin = _uniforms(f"{mind.seed}|{call.run_id}|{call.number}", 4)
    if lapses < mind.lapse:
        return coin < 0.5
    p_first = logistic(gap + mind.delta)
    if persists >= mind.persistence:
        return own < p_first
    low, high = sorted(ids)
    (of_pair,) = _uniforms(f"{mind.seed}|{low}|{high}", 1)
    # one draw for both orders: the text with the lower id wins if it is small
    return of_pair < p_first if ids[0] == low else of_pair >= 1 - p_first


def fault_of(faults: SimulatedFaults, seed: int, call: CallId) -> str | None:
    """The fault of a call: rate_limited, server_error, timeout, garbage or None."""
    burst = f"{seed}|burst|{call.run_id}|{call.number // BURST}|{call.attempt}"
    if _uniforms(burst, 1)[0] < faults.rate_limited:
        return "rate_limited"
    (left,) = _uniforms(f"{seed}|fault|{call}", 1)
    for name in ("server_error", "timeout", "garbage"):
        probability: float = getattr(faults, name)
        if left < probability:
            return name
        left -= probability
    return None


def latency_of(faults: SimulatedFaults, seed: int, call: CallId) -> float:
    """Seconds until the judge answers: exponentially distributed."""
    (uniform,) = _uniforms(f"{seed}|latency|{call}", 1)
    return -faults.latency_s * math.log1p(-uniform)


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)), without an overflow."""
    return 0.5 * (1 + math.tanh(x / 2))


def _response(prefers_first: bool) -> bytes:
    return orjson.dumps(
        {
            "winner": "A" if prefers_first else "B",
            "confidence": 3,
            "justification": "Simulated.",
        }
    )


def _tokens(size_bytes: int) -> int:
    return -(-size_bytes // BYTES_PER_TOKEN)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _uniforms(name: str, n: int) -> list[float]:
    """Up to four numbers in [0, 1) that depend on the name alone, 53 bits each."""
    digest = hashlib.sha256(name.encode()).digest()
    return [
        (int.from_bytes(digest[8 * number : 8 * number + 8]) >> 11) * 2**-53 for number in range(n)
    ]
