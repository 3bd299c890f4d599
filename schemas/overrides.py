"""`llm_config_overrides` of a request, checked: which judge it wants, with which parameters and limits. Pure.

One function for every place that takes overrides; it finds all faults at once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

import orjson

from schemas.judging_events import ResultDetail
from schemas.models import PUSD_PER_USD, Model, Models

MAX_SYSTEM_BYTES = 16 * 1024
MAX_RUBRIC_BYTES = 32 * 1024
MAX_SEED = 2**53 - 1  # exact in every JSON parser
NATIONAL = "canonical_national"
PARAMETERS = {
    "temperature_override": "temperature",
    "max_tokens_override": "max_tokens",
    "reasoning_effort": "reasoning_effort",
    "output_verbosity": "output_verbosity",
}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")  # of any model
VERBOSITIES = ("low", "medium", "high")
FIELD_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingLimits:
    """What this installation allows; a request may only lower these."""

    max_cost_pusd: int | None
    max_seconds: int
    per_item_max: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What a request wants changed; None: nothing. parameters are those of the model's API."""

    model: Model
    parameters: Mapping[str, object] = field(default_factory=dict)
    system: str | None = None
    rubric: str | None = None
    max_comparisons: int | None = None
    max_output_tokens: int
    max_cost_pusd: int | None
    max_seconds: int
    target_bound: float | None = None
    target_grades: float | None = None
    grade_min: float | None = None
    per_item_max: int | None = None
    seed: int | None = None
    quorum: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Faults:
    """The faults found so far, and the readers of single values."""

    values: Mapping[str, Any]
    path: str
    found: list[ResultDetail]

    def add(self, name: str, code: str) -> None:
        self.found.append(ResultDetail(path=f"{self.path}{name}".rstrip("."), code=code))

    def unknown_fields(self, known: frozenset[str]) -> None:
        for name in self.values:
            if name not in known:
                # any other name may be a whole text
                self.add(name if FIELD_NAME.fullmatch(name) else "", "unknown_field")

    def text(self, name: str, max_bytes: int | None = None) -> str | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            self.add(name, "wrong_type")
            return None
        if max_bytes is not None and len(value.encode()) > max_bytes:
            self.add(name, "too_long")
        return value

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            self.add(name, "out_of_range")
        return value

    def whole(self, name: str, minimum: int, maximum: int) -> int | None:
        value = self.values.get(name)
        if value is not None and type(value) is not int:
            self.add(name, "wrong_type")
            return None
        return self._in_range(name, value, minimum, maximum)

    def number(self, name: str, minimum: float, maximum: float) -> float | None:
        value = self.values.get(name)
        if value is not None and type(value) not in (int, float):
            self.add(name, "wrong_type")
            return None
        return self._in_range(name, value, minimum, maximum)

    def _in_range(self, name: str, value: N | None, minimum: float, maximum: float) -> N | None:
        if value is not None and not minimum <= value <= maximum:
            self.add(name, "out_of_range")
            return None
        return value


TOP_FIELDS = frozenset(
    {
        "provider_override",
        "model_override",
        *PARAMETERS,
        "system_prompt_override",
        "judge_rubric_override",
        "judging",
    }
)
JUDGING_FIELDS = frozenset(
    {
        "max_comparisons",
        "max_cost_usd",
        "max_seconds",
        "target_bound",
        "target_grades",
        "grade_min",
        "per_item_max",
        "seed",
        "quorum",
    }
)


def read_overrides(
    text: str | None,
    models: Models,
    default: Model,
    limits: JudgingLimits,
    context_origin: str | None = None,
) -> Overrides | tuple[ResultDetail, ...]:
    """The overrides of a request, or all their faults. default: the judge of requests that want none."""
    found: list[ResultDetail] = []
    top = _Faults(_object_of(text, found), "llm_config_overrides.", found)
    top.unknown_fields(TOP_FIELDS)
    model = _model(top, models, default)
    judging = _Faults(_judging_of(top), f"{top.path}judging.", found)
    judging.unknown_fields(JUDGING_FIELDS)
    system = top.text("system_prompt_override", MAX_SYSTEM_BYTES)
    rubric = top.text("judge_rubric_override", MAX_RUBRIC_BYTES)
    if rubric is not None and context_origin == NATIONAL:
        top.add("judge_rubric_override", "rubric_fixed")
    max_tokens = top.whole("max_tokens_override", 1, model.max_output_tokens)
    overrides = Overrides(
        model=model,
        parameters=_parameters(top, model, max_tokens),
        system=system,
        rubric=rubric,
        max_comparisons=judging.whole("max_comparisons", 1, 10**7),
        max_output_tokens=max_tokens or model.output_tokens,
        max_cost_pusd=_max_cost(judging, limits, model),
        max_seconds=_max_seconds(judging, limits),
        target_bound=judging.number("target_bound", 0.3, 0.99),
        target_grades=judging.number("target_grades", 0.3, 0.99),
        grade_min=judging.number("grade_min", 0, 1),
        per_item_max=judging.whole("per_item_max", 2, limits.per_item_max),
        seed=judging.whole("seed", 0, MAX_SEED),
        quorum=judging.number("quorum", 0.5, 1.0),
        warnings=("model_deprecated",) if model.is_deprecated else (),
    )
    return tuple(found) if found else overrides


def _object_of(text: str | None, found: list[ResultDetail]) -> Mapping[str, Any]:
    if text is None:
        return {}
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict):
        return document
    found.append(ResultDetail(path="llm_config_overrides", code="wrong_type"))
    return {}


def _judging_of(top: _Faults) -> Mapping[str, Any]:
    judging = top.values.get("judging")
    if judging is None or isinstance(judging, dict):
        return judging or {}
    top.add("judging", "wrong_type")
    return {}


def _model(top: _Faults, models: Models, default: Model) -> Model:
    """The wanted model; the default one if there is a fault."""
    provider, name = top.text("provider_override"), top.text("model_override")
    if provider is not None and not models.has_provider(provider):
        top.add("provider_override", "unknown_provider")
        return default
    if name is None and provider in (None, default.provider):
        return default
    if provider is None:
        candidates = models.providers(name or "")
        if len(candidates) > 1:
            top.add("provider_override", "provider_required")
            return default
        model = candidates[0] if candidates else None
    else:
        model = models.of(provider, name or "")
    if model is None:
        top.add("model_override", "unknown_model")
    elif model.is_retired:
        top.add("model_override", "model_retired")
    return model or default


def _parameters(top: _Faults, model: Model, max_tokens: int | None) -> Mapping[str, Any]:
    """The wanted parameters, by their names in the model's API; an absent one is not sent, a 0 is a 0."""
    values = {
        "temperature_override": top.number("temperature_override", 0.0, model.temperature_max),
        "max_tokens_override": max_tokens,
        "reasoning_effort": top.one_of("reasoning_effort", model.efforts or EFFORTS),
        "output_verbosity": top.one_of("output_verbosity", VERBOSITIES),
    }
    parameters = {}
    for name, value in values.items():
        if value is None:
            continue
        if PARAMETERS[name] in model.takes:
            parameters[model.takes[PARAMETERS[name]]] = value
        else:
            top.add(name, "unsupported_parameter")
    return parameters


def _max_cost(judging: _Faults, limits: JudgingLimits, model: Model) -> int | None:
    """The money limit in pico-dollars: the server's, or a lower one."""
    limit = limits.max_cost_pusd
    if "max_cost_usd" in judging.values and judging.values["max_cost_usd"] is None:
        if limit is not None and model.price is None:
            judging.add("max_cost_usd", "above_server_limit")
        return limit
    wanted = judging.number("max_cost_usd", 0, 10**6)
    if wanted is not None:
        pusd = int(Decimal(str(wanted)) * PUSD_PER_USD)
        if limit is not None and pusd > limit:
            judging.add("max_cost_usd", "above_server_limit")
        limit = pusd
    if limit is not None and model.price is None:
        judging.add("max_cost_usd", "price_unknown")
    return limit


def _max_seconds(judging: _Faults, limits: JudgingLimits) -> int:
    wanted = judging.whole("max_seconds", 1, 10**7)
    if wanted is not None and wanted > limits.max_seconds:
        judging.add("max_seconds", "above_server_limit")
    return limits.max_seconds if wanted is None else wanted
