"""The options of a run as overrides, and what is wrong with them, each fault with its remedy."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from processors.settings import Settings
from schemas.errors import CJStreamError
from tests.support.override_cases import CASES, write_models_file
from tools.admin.failures import Usage
from tools.runner.run_options import (
    REMEDIES,
    OverrideOptions,
    OverridesRefused,
    check_money_limit,
    check_overrides,
    overrides_in,
)

TODAY = date(2026, 11, 30)


def test_options_go_before_a_file_and_leave_the_rest_of_it() -> None:
    given: dict[str, Any] = {
        "temperature_override": 0,
        "model_override": "gpt-5",
        "judging": {"seed": 3, "max_cost_usd": 4},
    }
    options = OverrideOptions(
        given=given,
        judge="anthropic/claude-haiku-4-5",
        system="Be brief.",
        max_cost_usd="2.50",
        max_comparisons=90,
    )
    assert options.document() == {
        "temperature_override": 0,
        "provider_override": "anthropic",
        "model_override": "claude-haiku-4-5",
        "system_prompt_override": "Be brief.",
        "judging": {"seed": 3, "max_cost_usd": 2.5, "max_comparisons": 90},
    }
    assert given["judging"] == {"seed": 3, "max_cost_usd": 4}  # the file's own stays as it is


def test_without_options_the_overrides_are_those_of_the_file() -> None:
    unchanged: tuple[dict[str, Any], ...] = ({}, {"judging": None}, {"judging": {}}, {"x": 1})
    for given in unchanged:
        assert OverrideOptions(given=given).document() == given
    assert OverrideOptions(given={}, max_cost_usd="0").document() == {
        "judging": {"max_cost_usd": 0.0}
    }


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"judge": "gpt-5"}, "--judge"),
        ({"judge": "openai/"}, "--judge"),
        ({"judge": "/gpt-5"}, "--judge"),
        ({"max_cost_usd": "much"}, "--max-cost"),
        ({"max_cost_usd": "-1"}, "--max-cost"),
        ({"max_cost_usd": "NaN"}, "--max-cost"),
        ({"max_cost_usd": "Infinity"}, "--max-cost"),
        ({"given": {"judging": [1]}, "max_comparisons": 9}, "judging must be an object"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(options: dict[str, Any], names: str) -> None:
    with pytest.raises(Usage, match=names):
        OverrideOptions(**{"given": {}, **options}).document()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b'{"a": 1,\n "a" 2}', "line 2, column 6"), (b"[]", "one JSON object"), (b"", "not JSON")],
)
def test_a_file_that_is_no_object_is_named_with_the_place(content: bytes, says: str) -> None:
    with pytest.raises(Usage, match=rf"^own\.json: .*{says}"):
        overrides_in(content, "own.json")
    assert overrides_in(b'{"a": [1]}', "own.json") == {"a": [1]}


def test_every_fault_is_one_line_with_its_remedy(tmp_path: Path) -> None:
    settings = Settings(judge="simulated/sim-1", models_file=write_models_file(tmp_path))
    found = set()
    for overrides, origin, _, code in CASES:
        if origin is None and isinstance(overrides, dict):
            with pytest.raises(OverridesRefused) as refused:
                check_overrides(overrides, settings, TODAY)
            assert any(line.endswith(f": {code}: {REMEDIES[code]}") for line in refused.value.lines)
            assert refused.value.exit_code == 2
            found.add(code)
    assert found >= {"unknown_field", "unknown_model", "out_of_range", "price_unknown", "too_long"}
    with pytest.raises(OverridesRefused) as refused:
        check_overrides({"x": 1, "temperature_override": 9}, settings, TODAY)
    assert [line.split(": ")[0] for line in refused.value.lines] == [
        "llm_config_overrides.x",
        "llm_config_overrides.temperature_override",
    ]


def test_every_code_that_overrides_are_refused_with_has_a_remedy() -> None:
    assert {code for *_, code in CASES} <= REMEDIES.keys()


def test_only_a_judge_that_is_paid_for_needs_a_limit_of_cost() -> None:
    settings = Settings(judge="simulated/sim-1")
    simulated = check_overrides({}, settings, TODAY).model
    check_money_limit({}, simulated)
    paid = {"provider_override": "openai", "model_override": "gpt-5-mini"}
    model = check_overrides(paid, settings, TODAY).model
    unlimited: tuple[dict[str, Any], ...] = (
        {},
        {"judging": {}},
        {"judging": {"max_cost_usd": None}},
    )
    for limits in unlimited:
        with pytest.raises(CJStreamError, match="openai/gpt-5-mini is paid for"):
            check_money_limit({**paid, **limits}, model)
    check_money_limit({"judging": {"max_cost_usd": 0}}, model)
