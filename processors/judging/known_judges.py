"""The judges that this installation knows, and what it allows them: from settings and the catalogue of models."""

from dataclasses import fields
from decimal import Decimal
from typing import Any

import orjson

from processors.judging.simulated import SimulatedFaults, SimulatedMind, simulated_model
from processors.settings import Settings
from schemas.errors import Misconfigured
from schemas.models import PUSD_PER_USD, Catalogue, Model, Models
from schemas.overrides import JudgingLimits

SIMULATED = "simulated/sim-1"
QUALITIES = "thetas"


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
