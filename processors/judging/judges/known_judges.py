"""The judges that this installation knows, and what it allows them: from settings and the catalogue of models."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any

import orjson

from processors.judging.judges import anthropic_messages, openai_chat, simulated
from processors.judging.judges.anthropic_messages import AnthropicMessagesJudge
from processors.judging.judges.judge import Judge
from processors.judging.judges.openai_chat import OpenAIChatJudge
from processors.judging.judges.provider_calls import ProviderAccess
from processors.judging.judges.simulated import (
    SimulatedFaults,
    SimulatedJudge,
    SimulatedMind,
    simulated_model,
)
from processors.setting_sources import secret_in_environment
from processors.settings import Settings
from schemas.errors import Misconfigured
from schemas.models import PUSD_PER_USD, Catalogue, Model, Models, Provider
from schemas.overrides import JudgingLimits

SIMULATED = "simulated/sim-1"
QUALITIES = "thetas"
ADAPTERS: Mapping[str, Callable[[ProviderAccess], Judge]] = {
    openai_chat.ADAPTER: OpenAIChatJudge,
    anthropic_messages.ADAPTER: AnthropicMessagesJudge,
}


def judge_name(settings: Settings) -> str:
    """The configured judge, provider/model. Raises Misconfigured if there is none."""
    if not settings.judge and settings.environment != "development":
        raise Misconfigured(
            f"CJSTREAM_JUDGE: name the provider/model that judges, such as {SIMULATED}"
        )
    return settings.judge or SIMULATED


def known_models(settings: Settings, catalogue: Catalogue) -> Models:
    """The simulated judge, then every model of the catalogue. Raises Misconfigured."""
    return Models((simulated_model(simulation_of(settings)[0]), *catalogue.models))


def default_model(settings: Settings, models: Models) -> Model:
    """The model of requests that want none. Raises Misconfigured if it is not known or retired."""
    name = judge_name(settings)
    model = models.named(name)
    if model is None:
        raise Misconfigured(
            f"CJSTREAM_JUDGE: there is no {name}: `cjstream models list` shows the known ones"
        )
    if model.is_retired:
        raise Misconfigured(
            f"CJSTREAM_JUDGE: {name} is retired since {model.retired_from}: name another one"
        )
    return model


def judges_of(settings: Settings, catalogue: Catalogue) -> dict[str, Judge]:
    """The judges of this process, by provider: those of providers whose key is set. Nothing connects.

    Raises Misconfigured, also if the configured judge's key is missing.
    """
    _, faults, thetas = simulation_of(settings)
    judges: dict[str, Judge] = {
        simulated.PROVIDER: SimulatedJudge(asyncio.sleep, thetas, faults),
    }
    configured = judge_name(settings).partition("/")[0]
    for provider in catalogue.providers:
        if access := _access_to(provider, settings, is_needed=provider.name == configured):
            judges[provider.name] = ADAPTERS[provider.adapter](access)
    return judges


def _access_to(provider: Provider, settings: Settings, *, is_needed: bool) -> ProviderAccess | None:
    """How to reach a provider; None if it needs a key that is not set."""
    variable = provider.key_variable
    key = secret_in_environment(variable) if variable else None
    if variable and key is None:
        if is_needed:
            raise Misconfigured(
                f"{variable}: the key of the judge {settings.judge} is missing: set it, or {variable}_FILE"
            )
        return None
    return ProviderAccess(
        base_url=provider.base_url, key=key, calls_max=settings.judge_concurrency_max
    )


def askable(models: Models, judges: Mapping[str, Judge]) -> Models:
    """The models that these judges can be asked for."""
    return Models(tuple(one for one in models.all if one.provider in judges))


def judging_limits(settings: Settings) -> JudgingLimits:
    """What a request may only lower."""
    limit = settings.judge_max_cost_usd
    return JudgingLimits(
        max_cost_pusd=None if limit is None else int(Decimal(str(limit)) * PUSD_PER_USD),
        max_seconds=settings.judge_timeout_s,
    )


def simulation_of(settings: Settings) -> tuple[SimulatedMind, SimulatedFaults, dict[str, float]]:
    """The simulated judge's mind, faults and known qualities. Raises Misconfigured."""
    try:
        members: dict[str, Any] = orjson.loads(settings.simulated_judge)
        thetas = {str(text): float(theta) for text, theta in members.pop(QUALITIES, {}).items()}
        faulty = {field.name for field in fields(SimulatedFaults)} & members.keys()
        faults = SimulatedFaults(**{name: members.pop(name) for name in faulty})
        return SimulatedMind(**members), faults, thetas
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError) as fault:
        raise Misconfigured(
            "CJSTREAM_SIMULATED_JUDGE: not a JSON object with members of the simulated judge"
        ) from fault
