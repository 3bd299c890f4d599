"""A cjstream command run as a process on a test's installation."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from processors.settings import Settings, variable_of

ROOT = Path(__file__).parents[2]


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment that gives a command just these settings."""
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("CJSTREAM_")
    }
    for name, value in settings.model_dump(mode="json", exclude_defaults=True).items():
        told = ",".join(value) if isinstance(value, list) else str(value)
        variables[variable_of(name)] = told
    return {**variables, "PYTHONPATH": str(ROOT)}


def printed(settings: Settings, *command: str) -> tuple[int, str, str]:
    """A command's exit code, what it printed for people, and what it said on stderr."""
    ended = subprocess.run(
        [sys.executable, "-m", "tools.cli", *command],
        cwd=ROOT,
        env=environment_of(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def told(settings: Settings, *command: str) -> tuple[int, Any, str]:
    """A command's exit code, its JSON document and what it said on stderr."""
    code, document, grumbled = printed(settings, *command, "--json")
    return code, json.loads(document or "null"), grumbled
