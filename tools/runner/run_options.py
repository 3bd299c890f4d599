"""The overrides of a run, from its options; checked by the function that the judge uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from processors.judging.judges.simulated import PROVIDER as SIMULATED
from processors.settings import Settings
from schemas.canonical_json import canonical_json
from schemas.errors import CJStreamError
from schemas.models import Model
from schemas.overrides import Overrides, read_overrides
from tools.admin.failures import Usage
from tools.models.override_check import OverrideCheck

CONTEXT_ORIGIN = "research_experiment"
KNOWN_MODELS = "`cjstream models list` shows the known ones"
REMEDIES = {
    "unknown_field": "there is no such member: leave it out",
    "wrong_type": "give a value of its type",
    "out_of_range": "`cjstream models show` has the limits of a model",
    "too_long": "shorten it",
    "unknown_provider": KNOWN_MODELS,
    "unknown_model": KNOWN_MODELS,
    "provider_required": "several providers have this model: name one of them",
    "model_retired": f"choose another model: {KNOWN_MODELS}",
    "unsupported_parameter": "the model does not take it: leave it out",
    "rubric_fixed": "a national assignment keeps its rubric: leave it out",
    "above_server_limit": "lower it, or raise the installation's own limit",
    "price_unknown": "choose a model with a price: `cjstream models prices`; or add its price to CJSTREAM_MODELS_FILE",
}


class OverridesRefused(CJStreamError):
    """The judge would refuse the overrides; one line for each fault, with what to do."""

    exit_code = 2

    def __init__(self, faults: Mapping[str, str]) -> None:
        self.lines = tuple(f"{path}: {code}: {REMEDIES[code]}" for path, code in faults.items())
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideOptions:
    """Options that become overrides. given: a JSON object; judge: provider/model; system: a system prompt."""

    given: Mapping[str, Any]
    judge: str | None = None
    system: str | None = None
    max_cost_usd: str | None = None
    max_comparisons: int | None = None

    def document(self) -> dict[str, Any]:
        """The overrides as a JSON object. Raises Usage."""
        document = dict(self.given)
        if self.judge is not None:
            provider, separator, model = self.judge.partition("/")
            if not (provider and separator and model):
                raise Usage(
                    "--judge: must be provider/model; `cjstream models list` shows the known ones"
                )
            document |= {"provider_override": provider, "model_override": model}
        if self.system is not None:
            document["system_prompt_override"] = self.system
        limits = {
            "max_cost_usd": _dollars(self.max_cost_usd),
            "max_comparisons": self.max_comparisons,
        }
        given = {name: value for name, value in limits.items() if value is not None}
        if given:
            judging = document.get("judging", {})
            if not isinstance(judging, dict):
                raise Usage("overrides: judging must be an object")
            document["judging"] = {**judging, **given}
        return document


def _dollars(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or value < 0:
        raise Usage("--max-cost: must be a number of US dollars, such as 2.50")
    return float(value)


def overrides_in(content: bytes, name: str) -> dict[str, Any]:
    """The overrides in a file. Raises Usage."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as fault:
        raise Usage(f"{name}: not JSON at line {fault.lineno}, column {fault.colno}") from None
    if not isinstance(document, dict):
        raise Usage(f"{name}: must be one JSON object")
    return document


def check_overrides(document: Mapping[str, Any], settings: Settings, today: date) -> Overrides:
    """The overrides as the judge will read them. Raises OverridesRefused, Misconfigured."""
    check = OverrideCheck.of(settings, today)
    text = canonical_json(document).decode() if document else None
    found = read_overrides(text, check.models, check.default, check.limits, CONTEXT_ORIGIN)
    if not isinstance(found, Overrides):
        raise OverridesRefused({fault.path: fault.code for fault in found})
    return found


def check_money_limit(document: Mapping[str, Any], model: Model) -> None:
    """A run with a real judge must say what it may cost. Raises Usage."""
    limit = document.get("judging", {}).get("max_cost_usd")
    if model.provider != SIMULATED and limit is None:
        raise Usage(
            f"--max-cost: {model.name} is paid for: say how many US dollars the run may cost"
        )
