"""What a request may override, and every fault of what it may not."""

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.judging_events import TokenPrices
from schemas.models import PUSD_PER_USD, Model, Models, Price
from schemas.overrides import JudgingLimits, Overrides, read_overrides

PRICES = TokenPrices(input=1, cache_write=1, cache_read=1, output=4)
SIMULATED = Model(
    provider="simulated",
    model="sim-1",
    adapter="simulated",
    answer_method="simulated",
    context_window=1_000_000,
    max_output_tokens=400,
    takes={"temperature": "temperature", "max_tokens": "max_tokens"},
    price=Price(provider="simulated", model="sim-1", prices=PRICES, source="simulated"),
)
UNPRICED = replace(SIMULATED, provider="local", model="llama", price=None)
RETIRED = replace(SIMULATED, provider="old", model="gone", is_retired=True)
ALL = Models(
    (
        SIMULATED,
        UNPRICED,
        RETIRED,
        replace(SIMULATED, provider="old", model="ageing", is_deprecated=True),
        replace(SIMULATED, provider="one", model="shared"),
        replace(SIMULATED, provider="two", model="shared"),
    )
)
LIMITS = JudgingLimits(max_cost_pusd=5 * PUSD_PER_USD, max_seconds=3600)


def read(document: Any, limits: JudgingLimits = LIMITS, origin: str | None = None) -> Any:
    text = orjson.dumps(document).decode()
    return read_overrides(text, ALL, SIMULATED, limits, origin)


def faults_of(document: Any, **options: Any) -> set[tuple[str, str]]:
    found = read(document, **options)
    assert isinstance(found, tuple)
    return {(fault.path.removeprefix("llm_config_overrides."), fault.code) for fault in found}


def test_without_overrides_everything_is_the_servers() -> None:
    nothing = Overrides(
        model=SIMULATED, max_output_tokens=400, max_cost_pusd=5 * PUSD_PER_USD, max_seconds=3600
    )
    assert read_overrides(None, ALL, SIMULATED, LIMITS) == read({}) == nothing
    assert read(dict.fromkeys(("model_override", "judging"))) == nothing


def test_every_override_is_taken() -> None:
    document = {
        "provider_override": "two",
        "model_override": "shared",
        "temperature_override": 0,
        "max_tokens_override": 200,
        "system_prompt_override": "Be strict.",
        "judge_rubric_override": "Structure first.",
        "judging": {
            "max_comparisons": 50,
            "max_cost_usd": 0.1,
            "max_seconds": 60,
            "target_bound": 0.8,
            "target_grades": 0.9,
            "grade_min": 0.5,
            "per_item_max": 10,
            "seed": 7,
            "quorum": 0.9,
        },
    }
    assert read(document) == Overrides(
        model=ALL.all[-1],
        parameters={"temperature": 0, "max_tokens": 200},
        system="Be strict.",
        rubric="Structure first.",
        max_output_tokens=200,
        max_comparisons=50,
        max_cost_pusd=100_000_000_000,
        max_seconds=60,
        target_bound=0.8,
        target_grades=0.9,
        grade_min=0.5,
        per_item_max=10,
        seed=7,
        quorum=0.9,
    )


@pytest.mark.parametrize(
    ("document", "path", "code"),
    [
        ([], "llm_config_overrides", "wrong_type"),
        ({"temperature": 1}, "temperature", "unknown_field"),
        ({"A whole text.": 1}, "llm_config_overrides", "unknown_field"),
        ({"judging": {"waves": 1}}, "judging.waves", "unknown_field"),
        ({"judging": []}, "judging", "wrong_type"),
        ({"provider_override": "nobody"}, "provider_override", "unknown_provider"),
        ({"model_override": "nothing"}, "model_override", "unknown_model"),
        (
            {"provider_override": "one", "model_override": "sim-1"},
            "model_override",
            "unknown_model",
        ),
        ({"provider_override": "one"}, "model_override", "unknown_model"),
        ({"model_override": "shared"}, "provider_override", "provider_required"),
        ({"model_override": "gone"}, "model_override", "model_retired"),
        ({"model_override": 7}, "model_override", "wrong_type"),
        ({"model_override": ""}, "model_override", "wrong_type"),
        ({"temperature_override": "0"}, "temperature_override", "wrong_type"),
        ({"temperature_override": True}, "temperature_override", "wrong_type"),
        ({"temperature_override": 2.1}, "temperature_override", "out_of_range"),
        ({"max_tokens_override": 401}, "max_tokens_override", "out_of_range"),
        ({"max_tokens_override": 1.0}, "max_tokens_override", "wrong_type"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter"),
        ({"output_verbosity": "loud"}, "output_verbosity", "out_of_range"),
        ({"system_prompt_override": "å" * 8193}, "system_prompt_override", "too_long"),
        ({"judge_rubric_override": "x" * 32_769}, "judge_rubric_override", "too_long"),
        ({"judging": {"seed": 2**53}}, "judging.seed", "out_of_range"),
        ({"judging": {"per_item_max": 25}}, "judging.per_item_max", "out_of_range"),
        ({"judging": {"quorum": 0.4}}, "judging.quorum", "out_of_range"),
        ({"judging": {"max_seconds": 3601}}, "judging.max_seconds", "above_server_limit"),
        ({"judging": {"max_cost_usd": 5.01}}, "judging.max_cost_usd", "above_server_limit"),
        ({"model_override": "llama"}, "judging.max_cost_usd", "price_unknown"),
        (
            {"model_override": "llama", "judging": {"max_cost_usd": None}},
            "judging.max_cost_usd",
            "above_server_limit",
        ),
    ],
)
def test_every_fault_has_its_code_and_its_place(document: Any, path: str, code: str) -> None:
    assert (path, code) in faults_of(document)


def test_all_faults_are_found_at_once() -> None:
    document = {"model_override": "gone", "x": 1, "judging": {"seed": "a", "quorum": 9}}
    assert {code for _, code in faults_of(document)} == {
        "model_retired",
        "unknown_field",
        "wrong_type",
        "out_of_range",
    }


def test_a_national_assignment_keeps_its_rubric() -> None:
    document = {"judge_rubric_override": "Mine."}
    assert faults_of(document, origin="canonical_national") == {
        ("judge_rubric_override", "rubric_fixed")
    }
    assert read(document, origin="research_experiment").rubric == "Mine."


def test_without_a_limit_of_the_server_a_price_need_not_be_known() -> None:
    limits = replace(LIMITS, max_cost_pusd=None)
    for judging in ({}, {"max_cost_usd": None}):
        overrides = read({"model_override": "llama", "judging": judging}, limits)
        assert (overrides.model, overrides.max_cost_pusd) == (UNPRICED, None)
    assert read({"judging": {"max_cost_usd": 9}}, limits).max_cost_pusd == 9 * PUSD_PER_USD


def test_a_null_does_not_raise_the_servers_limit() -> None:
    assert read({"judging": {"max_cost_usd": None}}).max_cost_pusd == LIMITS.max_cost_pusd


def test_money_is_exact() -> None:
    assert read({"judging": {"max_cost_usd": 0.000000000001}}).max_cost_pusd == 1
    assert read({"judging": {"max_cost_usd": 0.29}}).max_cost_pusd == 290_000_000_000


def test_a_deprecated_model_only_warns() -> None:
    assert read({"model_override": "ageing"}).warnings == ("model_deprecated",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["judging", "max_cost_usd", "seed", "model_override", "é", ""]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_whatever_a_stranger_sends_there_are_overrides_or_faults(text: bytes) -> None:
    found = read_overrides(text.decode(errors="ignore"), ALL, SIMULATED, LIMITS)
    assert isinstance(found, Overrides) or found != ()
