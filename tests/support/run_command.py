"""Runs cjstream commands on the installation of a test."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from processors.settings import GROUPS, Settings, variable_of
from tools.cli import main

ROOT = Path(__file__).parents[2]


def environment_of(settings: Settings, **variables: str) -> dict[str, str]:
    """The environment variables that give a process exactly these settings, and no other of ours but `variables`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CJSTREAM_", "JWT_", "SCHEMA_REGISTRY_"))
    }
    for name, value in settings.model_dump(
        mode="json", exclude_defaults=True, exclude=set(GROUPS)
    ).items():
        text = ",".join(value) if isinstance(value, list) else str(value)
        inherited[variable_of(name)] = text
    for group, variable in GROUPS.items():
        values = getattr(settings, group)
        for name in values.model_fields_set:
            value = getattr(values, name)
            secret = value.get_secret_value() if isinstance(value, SecretStr) else value
            inherited[variable(name)] = str(secret)
    return {**inherited, "PYTHONPATH": str(ROOT), **variables}


def run_main(
    environment: Mapping[str, str], *command: str, stdin: str = ""
) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command; it runs in this process, because to start one takes a second."""
    unset = dict.fromkeys(os.environ)
    isolated = CliRunner().isolation(stdin, {**unset, **environment})
    with logging_restored(), isolated as (stdout, stderr, _):
        with pytest.raises(SystemExit) as ended:
            main(command)
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = stdout.getvalue().decode(), stderr.getvalue().decode()
    return int(ended.value.code or 0), out, err


@contextmanager
def environment_variables(**variables: str | None) -> Iterator[None]:
    """Set environment variables of this process while the block runs; None: it is not set."""
    with CliRunner().isolation(env=variables):
        yield


@contextmanager
def logging_restored() -> Iterator[None]:
    """Undo what a command that logs changes in this process."""
    root, level, hook = logging.getLogger(), logging.getLogger().level, threading.excepthook
    handlers = list(root.handlers)
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        threading.excepthook = hook


def run_process(settings: Settings, *command: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command that logs, which it does only in a process of its own."""
    completed = subprocess.run(
        [sys.executable, "-m", "tools", *command],
        cwd=ROOT,
        env=environment_of(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    return completed.returncode, completed.stdout, completed.stderr


def run_text(settings: Settings, *command: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command on an installation."""
    return run_main(environment_of(settings), *command)


def run_json(settings: Settings, *command: str) -> tuple[int, Any, str]:
    """The exit code, JSON document and stderr of a command with `--json`."""
    exit_code, document, stderr = run_text(settings, *command, "--json")
    return exit_code, json.loads(document or "null"), stderr


def document_if_done(settings: Settings, *command: str) -> Any:
    """The JSON document of a command; None if it fails."""
    exit_code, document, _ = run_json(settings, *command)
    return document if exit_code == 0 else None
