"""One check of overrides behind three doors: command line, API, and a request from Kafka as a judge opens it."""

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from processors.judging.run_opening import JudgingPolicy
from processors.settings import Settings
from schemas import overrides as checked
from tests.contract.api.calling import Api, make_api
from tests.support.override_cases import CASES, NATIONAL, full_path, write_models_file
from tests.support.run_command import environment_of, run_main
from tests.unit.judging.test_run_opening import opened, prepared, refusal
from tools.models.override_check import OverrideCheck

ACCEPTED = {"provider_override": "school", "model_override": "free", "temperature_override": 0}
ROUTE = "/v1/judges/check"
CODE = re.compile(r'(?:add\(.*|code=)"([a-z_]+)"\)$', re.MULTILINE)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """An installation with the models file of the cases."""
    folder = tmp_path_factory.mktemp("installation")
    return make_api(folder, judge="openai/gpt-5-mini", models_file=write_models_file(folder))


def settings_of(api: Api) -> Settings:
    settings: Settings = api.app.state.dependencies.settings
    return settings


def faults_at_the_command_line(api: Api, overrides: Any, origin: str | None) -> Any:
    options = ["--context-origin", origin] if origin else []
    environment = environment_of(settings_of(api))
    command = ("models", "check", "-", "--json", *options)
    exit_code, out, _ = run_main(environment, *command, stdin=json.dumps(overrides))
    found = json.loads(out)
    assert exit_code == (0 if found["ok"] else 2)
    return found["faults"]


def faults_at_the_api(api: Api, overrides: Any, origin: str | None) -> Any:
    body = {"llm_config_overrides": overrides, "context_origin": origin}
    response = api("POST", ROUTE, body)
    assert response.status_code == 200
    assert response.json()["ok"] == (response.json()["faults"] == [])
    return response.json()["faults"]


def policy_of(settings: Settings) -> JudgingPolicy:
    check = OverrideCheck.of(settings, date(2026, 11, 1))
    return JudgingPolicy(
        models=check.models,
        default=check.default,
        limits=check.limits,
        items_max=1000,
        guests_allowed=True,
    )


def faults_of_a_request(api: Api, overrides: Any, origin: str | None) -> Any:
    batch = prepared(overrides)
    metadata = replace(
        batch.event.processing_metadata, context_origin=origin or "research_experiment"
    )
    batch = replace(batch, event=replace(batch.event, processing_metadata=metadata))
    _, details = refusal(batch, policy_of(settings_of(api)))
    return [{"path": path, "code": code} for path, code in details]


DOORS = {
    "command line": faults_at_the_command_line,
    "API": faults_at_the_api,
    "request": faults_of_a_request,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("overrides", "origin", "path", "code"), CASES)
def test_each_door_finds_the_fault(
    api: Api, door: str, overrides: Any, origin: str | None, path: str, code: str
) -> None:
    assert {"path": full_path(path), "code": code} in DOORS[door](api, overrides, origin)


@pytest.mark.parametrize("door", DOORS)
def test_each_door_names_all_faults_at_once_and_the_same_ones(api: Api, door: str) -> None:
    everything = {"model_override": "gone", "x": 1, "judging": {"seed": "a", "quorum": 9}}
    everything["judge_rubric_override"] = "Mine."
    found = DOORS[door](api, everything, NATIONAL)
    assert [(fault["path"], fault["code"]) for fault in found] == [
        ("llm_config_overrides.x", "unknown_field"),
        ("llm_config_overrides.model_override", "model_retired"),
        ("llm_config_overrides.judge_rubric_override", "rubric_fixed"),
        ("llm_config_overrides.judging.max_cost_usd", "price_unknown"),
        ("llm_config_overrides.judging.seed", "wrong_type"),
        ("llm_config_overrides.judging.quorum", "out_of_range"),
    ]


def test_every_code_of_the_check_goes_through_all_doors() -> None:
    codes = set(CODE.findall(Path(checked.__file__).read_text()))
    assert codes == {code for *_, code in CASES}


def test_what_is_accepted_is_accepted_at_each_door(api: Api) -> None:
    assert faults_at_the_command_line(api, ACCEPTED, None) == []
    assert faults_at_the_api(api, ACCEPTED, None) == []
    record = opened(prepared(ACCEPTED), policy_of(settings_of(api))).record
    assert (record.judge.provider, record.judge.model) == ("school", "free")
    assert orjson.loads(record.judge.parameters) == {"max_tokens": 1000, "temperature": 0}
    assert record.judge.max_output_tokens == 1000


def test_the_api_says_which_judge_and_with_which_warning(api: Api) -> None:
    overrides = {"provider_override": "anthropic", "model_override": "claude-opus-4-5"}
    document = api("POST", ROUTE, {"llm_config_overrides": overrides}).json()
    assert document == {
        "ok": True,
        "faults": [],
        "judge": "anthropic/claude-opus-4-5",
        "warnings": ["model_deprecated"],
    }
    assert api("POST", ROUTE, {}).json()["judge"] == "openai/gpt-5-mini"
