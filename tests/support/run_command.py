"""Runs cjstream commands on the installation of a test."""

import io
import json
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from processors.settings import Settings, variable_of
from tools.cli import main

ROOT = Path(__file__).parents[2]


def environment_of(settings: Settings, **variables: str) -> dict[str, str]:
    """The environment variables that give a process exactly these settings, and no other of ours but `variables`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CJSTREAM_", "JWT_"))
    }
    for name, value in settings.model_dump(mode="json", exclude_defaults=True).items():
        text = ",".join(value) if isinstance(value, list) else str(value)
        inherited[variable_of(name)] = text
    return {**inherited, "PYTHONPATH": str(ROOT), **variables}


def run_main(
    environment: Mapping[str, str], *command: str, stdin: str = ""
) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command; it runs in this process, because to start one takes a second."""
    given, stdout, stderr = (
        io.TextIOWrapper(io.BytesIO(content), "utf-8", write_through=True)
        for content in (stdin.encode(), b"", b"")
    )
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "argv", ["cjstream", *command]),
        patch.object(sys, "stdin", given),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    out, err = (stream.detach().getvalue().decode() for stream in (stdout, stderr))
    return int(ended.value.code or 0), out, err


def run_text(settings: Settings, *command: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command on an installation."""
    return run_main(environment_of(settings), *command)


def run_json(settings: Settings, *command: str) -> tuple[int, Any, str]:
    """The exit code, JSON document and stderr of a command with `--json`."""
    exit_code, document, stderr = run_text(settings, *command, "--json")
    return exit_code, json.loads(document or "null"), stderr
