"""Overrides that are refused, with the fault of each; and a models file that they need."""

from pathlib import Path
from typing import Any

import orjson

NATIONAL = "canonical_national"
LOCAL_MODEL = {"context_window": 32_768, "max_output_tokens": 4_096}
MODELS_FILE = {
    "providers": [
        {
            "name": "school",
            "base_url": "http://models.school.example/v1",
            "models": [
                {
                    "model": "free",
                    **LOCAL_MODEL,
                    "prices": dict.fromkeys(("input", "cache_write", "cache_read", "output"), 0),
                },
                {"model": "unpriced", **LOCAL_MODEL},
                {"model": "gone", **LOCAL_MODEL, "retired_from": "2020-01-01"},
                {"model": "gpt-5", **LOCAL_MODEL},
            ],
        }
    ]
}
HAIKU = {"provider_override": "anthropic", "model_override": "claude-haiku-4-5"}
# overrides, the origin of the instructions, where the fault is, its code
CASES: tuple[tuple[Any, str | None, str, str], ...] = (
    ([], None, "", "wrong_type"),
    ({"temperature": 1}, None, "temperature", "unknown_field"),
    ({"judging": {"waves": 1}}, None, "judging.waves", "unknown_field"),
    ({"model_override": 7}, None, "model_override", "wrong_type"),
    ({"provider_override": "nobody"}, None, "provider_override", "unknown_provider"),
    ({"model_override": "nothing"}, None, "model_override", "unknown_model"),
    ({"model_override": "gpt-5"}, None, "provider_override", "provider_required"),
    ({"model_override": "gone"}, None, "model_override", "model_retired"),
    (HAIKU | {"reasoning_effort": "low"}, None, "reasoning_effort", "unsupported_parameter"),
    (HAIKU | {"temperature_override": 1.5}, None, "temperature_override", "out_of_range"),
    (HAIKU | {"max_tokens_override": 64_001}, None, "max_tokens_override", "out_of_range"),
    (
        {"provider_override": "openai", "model_override": "gpt-5.1", "reasoning_effort": "minimal"},
        None,
        "reasoning_effort",
        "out_of_range",
    ),
    ({"system_prompt_override": "x" * 16_385}, None, "system_prompt_override", "too_long"),
    ({"judge_rubric_override": "Mine."}, NATIONAL, "judge_rubric_override", "rubric_fixed"),
    ({"judging": {"max_cost_usd": 5.01}}, None, "judging.max_cost_usd", "above_server_limit"),
    ({"judging": {"max_seconds": 3601}}, None, "judging.max_seconds", "above_server_limit"),
    ({"model_override": "unpriced"}, None, "judging.max_cost_usd", "price_unknown"),
)


def write_models_file(folder: Path) -> Path:
    """Write the models file of the cases; returns its path."""
    file = folder / "models.json"
    file.write_bytes(orjson.dumps(MODELS_FILE))
    return file


def full_path(path: str) -> str:
    """The path of a fault in a whole request."""
    return f"llm_config_overrides.{path}".rstrip(".")
