"""cjstream commands as child processes of this one."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def command(*arguments: str) -> list[str]:
    """The command line of a cjstream command, in this Python."""
    return [sys.executable, "-P", "-m", "tools.cli", *arguments]


def environment(**settings: object) -> dict[str, str]:
    """This process's environment, with settings on top and the packages on the import path."""
    given = {f"CJSTREAM_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "PYTHONPATH": str(ROOT), **given}
