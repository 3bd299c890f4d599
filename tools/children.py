"""The command lines and the environment for cjstream commands as child processes."""

import os
import sys
from pathlib import Path

from processors.settings import variable_of

ROOT = Path(__file__).parent.parent


def command(*arguments: str) -> list[str]:
    """The command line of a cjstream command, with this Python."""
    return module("tools.cli", *arguments)


def module(name: str, *arguments: str) -> list[str]:
    """The command line of a module, with this Python."""
    return [sys.executable, "-P", "-m", name, *arguments]


def environment(**settings: object) -> dict[str, str]:
    """This process's environment, with these settings added and the packages on the import path."""
    variables = {variable_of(name): str(value) for name, value in settings.items()}
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}
