"""Runs a cjstream command as a process on the installation of a test."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from processors.settings import Settings, variable_of

ROOT = Path(__file__).parents[2]


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables that give a command exactly these settings."""
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("CJSTREAM_")
    }
    for name, value in settings.model_dump(mode="json", exclude_defaults=True).items():
        text = ",".join(value) if isinstance(value, list) else str(value)
        variables[variable_of(name)] = text
    return {**variables, "PYTHONPATH": str(ROOT)}


def run_text(settings: Settings, *command: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command."""
    completed = subprocess.run(
        [sys.executable, "-m", "tools.cli", *command],
        cwd=ROOT,
        env=environment_of(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    return completed.returncode, completed.stdout, completed.stderr


def run_json(settings: Settings, *command: str) -> tuple[int, Any, str]:
    """The exit code, JSON document and stderr of a command with `--json`."""
    exit_code, document, stderr = run_text(settings, *command, "--json")
    return exit_code, json.loads(document or "null"), stderr
