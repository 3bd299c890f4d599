"""The judges that the contract suite asks, and the requests it asks them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from processors.judging.judges import anthropic_messages, openai_chat, simulated
from processors.judging.judges.anthropic_messages import AnthropicMessagesJudge
from processors.judging.judges.judge import CallId, Judge, JudgeRequest
from processors.judging.judges.openai_chat import OpenAIChatJudge
from processors.judging.judges.provider_calls import ProviderAccess
from processors.judging.judges.simulated import SimulatedFaults, SimulatedJudge, SimulatedMind
from processors.judging.prompt import AskedJudge, PromptTexts, build_prompt
from tests.support.judge_server import KEY, Day, JudgeServer, judge_server

MIND = SimulatedMind()
SIMULATED = AskedJudge(
    adapter=simulated.ADAPTER,
    provider=simulated.PROVIDER,
    base_url=None,
    model=simulated.MODEL,
    parameters=simulated.parameters_of(MIND),
    answer_method="simulated",
)
OPENAI = AskedJudge(
    adapter=openai_chat.ADAPTER,
    provider="openai",
    base_url="https://api.openai.com/v1",
    model="gpt-5-mini",
    parameters={"max_completion_tokens": 400, "reasoning_effort": "low"},
    answer_method="json_schema",
)
ANTHROPIC = AskedJudge(
    adapter=anthropic_messages.ADAPTER,
    provider="anthropic",
    base_url="https://api.anthropic.com",
    model="claude-haiku-4-5",
    parameters={"max_tokens": 400, "temperature": 0},
    answer_method="tool",
)
TEXTS = PromptTexts(task="Ska läxor förbjudas?", criteria="Bedöm argumentationen. " * 20)


def request_for(
    first: str = "Ja, läxor tar tid.",
    second: str = "Nej.",
    number: int = 0,
    attempt: int = 1,
    asked: AskedJudge = SIMULATED,
) -> JudgeRequest:
    """The question whether the first text is better."""
    return JudgeRequest(
        call=CallId("cj.requests.v1/3@41", number, attempt),
        prompt=build_prompt(asked, TEXTS, first, second, seed=7, number=number),
        max_output_tokens=400,
        first_text=first,
        second_text=second,
    )


def simulated_with(**faults: Any) -> Judge:
    """The simulated judge with these faults."""
    return SimulatedJudge(asyncio.sleep, {}, SimulatedFaults(**faults))


FAULTS = {  # of the provider on loopback, by the reason that they lead to
    "invalid_answer": "unusable",
    "rate_limited": "rate_limited",
    "provider_error": "server_error",
    "timeout": "hang",
    "truncated": "truncated",
    "declined": "refusal",
}
SIMULATED_FAULTS = {
    "invalid_answer": "garbage",
    "rate_limited": "rate_limited",
    "provider_error": "server_error",
    "timeout": "timeout",
}


@contextmanager
def simulated_judge(reason: str | None) -> Iterator[Judge]:
    """The simulated judge; each of its calls fails for the reason."""
    yield simulated_with(**({SIMULATED_FAULTS[reason]: 1.0} if reason else {}))


@contextmanager
def openai_judge(reason: str | None) -> Iterator[Judge]:
    """The adapter of OpenAI with a provider on loopback."""
    with judge_server() as server:
        server.day = _day(reason)
        yield OpenAIChatJudge(access_to(server, "/v1"))


@contextmanager
def anthropic_judge(reason: str | None) -> Iterator[Judge]:
    """The adapter of Anthropic with a provider on loopback."""
    with judge_server() as server:
        server.day = _day(reason)
        yield AnthropicMessagesJudge(access_to(server))


def access_to(server: JudgeServer, path: str = "") -> ProviderAccess:
    """How to reach a provider on loopback."""
    return ProviderAccess(base_url=f"{server.url}{path}", key=KEY)


def _day(reason: str | None) -> Day:
    probabilities = {FAULTS[reason]: 1.0} if reason else {}
    return Day(probabilities, retry_after={"retry-after": "2"})


ADAPTERS: dict[str, tuple[AskedJudge, Callable[[str | None], AbstractContextManager[Judge]]]] = {
    "simulated": (SIMULATED, simulated_judge),
    "openai": (OPENAI, openai_judge),
    "anthropic": (ANTHROPIC, anthropic_judge),
}
