"""The catalogue of models: the checked-in files, further models of a file, days, and what is wrong with a file."""

import dataclasses
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from processors.settings import Settings
from schemas.errors import Misconfigured
from schemas.models import PUSD_PER_USD, Model, Models
from tests.support.override_cases import LOCAL_MODEL, write_models_file
from tests.support.run_command import ROOT, environment_of, run_main
from tools.models.catalogue import MODELS_FILE, PRICES_FILE, price_rows, read_catalogue
from tools.models.price_table import documents

TODAY = date(2026, 11, 1)


def models_on(day: date, file: Path | None = None) -> Models:
    return Models(read_catalogue(file, day).models)


def test_the_checked_in_files_are_what_the_command_writes() -> None:
    assert (MODELS_FILE.read_bytes(), PRICES_FILE.read_bytes()) == documents()


def test_every_model_of_the_release_has_a_price_in_whole_pico_dollars() -> None:
    for model in models_on(TODAY).all:
        assert model.price is not None, model.name
        assert model.price.prices.input > 0
        # an answer of the longest length, once for each of 32 slots, is within the default money limit
        assert 32 * model.output_tokens * model.price.prices.output < 10 * PUSD_PER_USD


def test_a_price_holds_from_its_first_day_to_the_one_before_the_next_price() -> None:
    rows = [row for row in price_rows() if row.model == "claude-opus-4-6"]
    assert [(row.valid_from, row.valid_to) for row in rows] == [
        (None, "2026-03-13"),
        ("2026-03-13", None),
    ]
    for day, row in ((date(2026, 3, 12), rows[0]), (date(2026, 3, 13), rows[1])):
        assert models_on(day).named("anthropic/claude-opus-4-6").price == row  # type: ignore[union-attr]


def test_a_request_is_no_longer_than_its_price_holds_for() -> None:
    models = models_on(date(2026, 3, 12))
    tiered, flat = models.named("anthropic/claude-opus-4-6"), models.named("openai/gpt-5")
    assert tiered is not None
    assert flat is not None
    assert tiered.input_tokens_max == 200_000 < tiered.context_window - tiered.max_output_tokens
    assert flat.input_tokens_max == flat.context_window - flat.max_output_tokens


def test_what_no_source_confirmed_is_said_of_a_model() -> None:
    unverified = {model.name: model.unverified for model in models_on(TODAY).all}
    assert unverified["anthropic/claude-opus-5-5"] == ("efforts",)
    assert unverified["openai/gpt-5"] == ()
    fields = {field.name for field in dataclasses.fields(Model)}
    assert {name for names in unverified.values() for name in names} <= fields
    code, shown, _ = run_main(
        environment_of(Settings(judge="simulated/sim-1")),
        *("models", "show", "anthropic/claude-opus-5-5", "--json"),
    )
    assert (code, json.loads(shown)["unverified"]) == (0, ["efforts"])


def test_a_model_that_will_be_retired_is_deprecated_until_that_day() -> None:
    states = [
        (model.is_deprecated, model.is_retired)
        for day in (date(2026, 11, 29), date(2026, 11, 30))
        if (model := models_on(day).named("anthropic/claude-sonnet-4-5"))
    ]
    assert states == [(True, False), (True, True)]


def test_a_file_adds_models_with_prices_or_without(tmp_path: Path) -> None:
    models = models_on(TODAY, write_models_file(tmp_path))
    free, unpriced = models.named("school/free"), models.named("school/unpriced")
    assert free is not None
    assert free.price is not None
    assert (free.price.prices.output, free.price.source) == (0, "models-file")
    assert free.base_url == "http://models.school.example/v1"
    assert unpriced is not None
    assert unpriced.price is None


GOOD: dict[str, Any] = {
    "name": "local",
    "base_url": "http://127.0.0.1:8000/v1",
    "models": [{"model": "m", **LOCAL_MODEL}],
}


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ({"name": "openai"}, "the provider openai is known already"),
        ({"name": "simulated"}, "the provider simulated is known already"),
        ({"base_url": "http://host/v1?key=s3cret"}, "providers.0.base_url"),
        ({"adapter": "telepathy"}, "providers.0.adapter"),
        ({"secret": "s3cret"}, "providers.0.secret"),
        ({"models": []}, "providers.0.models"),
        ({"models": [{"model": "m"}]}, "providers.0.models.0.context_window"),
        ({"models": [{"model": "m", **LOCAL_MODEL, "answer_tokens": 5000}]}, "answer_tokens"),
        (
            {"models": [{"model": "m", **LOCAL_MODEL, "takes": ["temperature"]}]},
            "max_tokens is missing",
        ),
        (
            {
                "models": [
                    {"model": "m", **LOCAL_MODEL, "takes": ["max_tokens", "reasoning_effort"]}
                ]
            },
            "parameters: reasoning_effort is missing",
        ),
        ({"models": [{"model": "m", **LOCAL_MODEL, "answer_method": "tool"}]}, "answer_method"),
    ],
)
def test_a_wrong_file_is_refused_with_the_member_and_without_its_value(
    tmp_path: Path, provider: dict[str, Any], expected: str
) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"providers": [GOOD | provider]}))
    with pytest.raises(Misconfigured, match="CJSTREAM_MODELS_FILE: ") as refused:
        read_catalogue(file, TODAY)
    assert expected in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "cannot be read: No such file"), ("{", "not JSON, in line 1"), ("[]", "the file: ")],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str | None, expected: str) -> None:
    file = tmp_path / "models.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Misconfigured, match=expected):
        read_catalogue(file, TODAY)


def test_the_example_of_the_reference_page_is_a_models_file(tmp_path: Path) -> None:
    page = (ROOT / "tools/reference/judges.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "models.json"
    file.write_text(example)
    models = models_on(TODAY, file)
    assert models.named("local/llama3.3:70b") is not None
    openrouter = models.named("openrouter/openai/gpt-5-mini")
    assert openrouter is not None
    assert openrouter.takes["reasoning_effort"] == "reasoning.effort"


def run(folder: Path, *command: str, **settings: Any) -> tuple[int, Any, str]:
    settings = {"judge": "openai/gpt-5-mini", "models_file": write_models_file(folder), **settings}
    exit_code, out, err = run_main(environment_of(Settings(**settings)), "models", *command)
    return exit_code, json.loads(out) if "--json" in command else out, err


def test_list_shows_every_model_with_its_prices(tmp_path: Path) -> None:
    exit_code, listed, _ = run(tmp_path, "list", "--json")
    names = [f"{model['provider']}/{model['model']}" for model in listed["models"]]
    assert exit_code == 0
    assert names[0] == "simulated/sim-1"
    assert {"openai/gpt-5-mini", "anthropic/claude-haiku-4-5", "school/free"} <= {*names}
    table = run(tmp_path, "list")[1]
    (row,) = [line for line in table.splitlines() if "gpt-5-mini" in line]
    assert [cell.strip() for cell in row.split("│")][5:9] == ["0.25", "0.25", "0.025", "2"]
    (row,) = [line for line in table.splitlines() if "school/unpriced" in line]
    assert [cell.strip() for cell in row.split("│")][5:9] == ["?"] * 4


def test_show_shows_one_model_and_names_one_that_is_not_known(tmp_path: Path) -> None:
    _, shown, _ = run(tmp_path, "show", "anthropic/claude-haiku-4-5", "--json")
    assert shown["prices"] == {
        "input": 1_000_000,
        "cache_write": 1_250_000,
        "cache_read": 100_000,
        "output": 5_000_000,
    }
    assert (shown["takes"], shown["answer_method"]) == (["max_tokens", "temperature"], "tool")
    exit_code, _, err = run(tmp_path, "show", "nobody/nothing")
    assert (exit_code, err) == (
        1,
        "cjstream: there is no nobody/nothing: `models list` shows the known ones\n",
    )


def test_prices_shows_the_rows_with_their_days_and_ids(tmp_path: Path) -> None:
    _, shown, _ = run(tmp_path, "prices", "--json")
    assert [row["price_id"] for row in shown["prices"]] == [row.price_id for row in price_rows()]
    assert "2026-03-13" in run(tmp_path, "prices")[1]


def test_a_wrong_models_file_is_one_line(tmp_path: Path) -> None:
    exit_code, _, err = run(tmp_path, "list", models_file=tmp_path / "missing")
    assert exit_code == 2
    assert (
        err
        == "cjstream: CJSTREAM_MODELS_FILE: the file cannot be read: No such file or directory\n"
    )
