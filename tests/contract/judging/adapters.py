"""The judges that the contract suite asks, and the requests it asks them."""

import asyncio
from collections.abc import Callable
from typing import Any

from processors.judging import simulated
from processors.judging.judge import CallId, Judge, JudgeRequest
from processors.judging.prompt import AskedJudge, PromptTexts, build_prompt
from processors.judging.simulated import SimulatedFaults, SimulatedJudge, SimulatedMind

MIND = SimulatedMind()
ASKED = AskedJudge(
    adapter=simulated.ADAPTER,
    provider=simulated.PROVIDER,
    base_url=None,
    model=simulated.MODEL,
    parameters=simulated.parameters_of(MIND),
    answer_method="simulated",
)
TEXTS = PromptTexts(task="Ska läxor förbjudas?", criteria="Bedöm argumentationen.")


def request_for(
    first: str = "Ja, läxor tar tid.", second: str = "Nej.", number: int = 0, attempt: int = 1
) -> JudgeRequest:
    """The question whether the first text is better."""
    return JudgeRequest(
        call=CallId("cj.requests.v1/3@41", number, attempt),
        prompt=build_prompt(ASKED, TEXTS, first, second, seed=7, number=number),
        max_output_tokens=400,
        first_text=first,
        second_text=second,
    )


def simulated_with(**faults: Any) -> Judge:
    """The simulated judge with these faults."""
    return SimulatedJudge(asyncio.sleep, {}, SimulatedFaults(**faults))


# for each adapter: a judge that answers, and one for each way to fail, by its reason
ADAPTERS: dict[str, Callable[[str | None], Judge]] = {
    "simulated": lambda reason: {
        None: simulated_with(),
        "invalid_answer": simulated_with(garbage=1.0),
        "rate_limited": simulated_with(rate_limited=1.0),
        "provider_error": simulated_with(server_error=1.0),
        "timeout": simulated_with(timeout=1.0),
    }[reason]
}
