"""Keys of providers: from the environment or a file, for the judge alone, and never shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from processors.settings import Settings
from tests.support.override_cases import write_models_file
from tests.support.run_command import ROOT, environment_of

KEY = "sk-0123456789-secret"
CODE = """
from datetime import date
from processors.judging.judges.known_judges import judges_of
from processors.settings import settings_from_environment
from schemas.errors import Misconfigured
from tools.models.catalogue import read_catalogue
settings = settings_from_environment()
try:
    judges = judges_of(settings, read_catalogue(settings.models_file, date(2026, 11, 1)))
    print(sorted(judges), judges)
except Misconfigured as fault:
    print(fault)
"""


def judges_with(judge: str, folder: Path, **variables: str) -> str:
    """What a process with these environment variables prints of its judges."""
    settings = Settings(judge=judge, models_file=write_models_file(folder))
    environment = environment_of(settings)
    for name in list(environment):
        if name.startswith(("OPENAI", "ANTHROPIC")):
            del environment[name]
    ended = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert KEY not in ended.stdout + ended.stderr
    return ended.stdout


def test_a_provider_can_be_asked_if_its_key_is_there_or_it_takes_none(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    keyless = judges_with("simulated/sim-1", tmp_path)
    assert keyless.startswith("['school', 'simulated'] ")
    both = judges_with(
        "openai/gpt-5", tmp_path, OPENAI_API_KEY=KEY, ANTHROPIC_API_KEY_FILE=str(file)
    )
    assert both.startswith("['anthropic', 'openai', 'school', 'simulated'] ")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "OPENAI_API_KEY: the key of the judge openai/gpt-5 is missing: set it, or"),
        ({"OPENAI_API_KEY_FILE": "nowhere"}, "OPENAI_API_KEY_FILE: the file cannot be read"),
        (
            {"OPENAI_API_KEY_FILE": "nowhere", "OPENAI_API_KEY": KEY},
            "OPENAI_API_KEY_FILE: OPENAI_API_KEY is set, too",
        ),
        ({"OPENAI_API_KEY": f"{KEY} x"}, "OPENAI_API_KEY: it has characters that no key has"),
    ],
)
def test_a_missing_or_unusable_key_of_the_judge_is_named_and_not_shown(
    tmp_path: Path, variables: dict[str, str], expected: str
) -> None:
    assert judges_with("openai/gpt-5", tmp_path, **variables).startswith(expected)


def test_a_retired_or_unknown_judge_is_named(tmp_path: Path) -> None:
    for judge, expected in (
        ("school/gone", "CJSTREAM_JUDGE: school/gone is retired since 2020-01-01"),
        ("school/none", "CJSTREAM_JUDGE: there is no school/none"),
    ):
        settings = Settings(judge=judge, models_file=write_models_file(tmp_path))
        ended = subprocess.run(
            [sys.executable, "-m", "tools", "models", "check", os.devnull],
            cwd=ROOT,
            env=environment_of(settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2
        assert expected in ended.stderr
