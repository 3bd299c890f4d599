"""What `doctor` and `audit verify` say about an installation, and the commands that `doctor` names."""

import json
import re
from contextlib import suppress

from processors.settings import Settings
from tests.support.run_command import run_process
from tests.support.until import until

NAMED = re.compile(r"`cjstream ([^`]+)`")


def run_named_commands(settings: Settings) -> list[str]:
    """Run every command that a failed check of `doctor` names, as it names it; returns the commands."""
    named = [command for check in _failed_checks(settings) for command in NAMED.findall(check)]
    commands = list(dict.fromkeys(named))
    for command in commands:
        exit_code, _, stderr = run_process(settings, *command.split())
        assert exit_code == 0, f"{command}: {exit_code}, {stderr}"
    return commands


def complaints_after(settings: Settings, seconds: float) -> list[str]:
    """What `doctor` still complains about after this time, at the latest, and `audit verify` then."""
    failed = list[str]()

    def is_healthy() -> bool:
        failed[:] = _failed_checks(settings)
        return not failed

    with suppress(AssertionError):
        until(is_healthy, seconds)
    exit_code, stdout, stderr = run_process(settings, "audit", "verify", "--no-texts")
    return failed + [f"audit verify: {exit_code}, {stdout}, {stderr}"] * bool(exit_code)


def _failed_checks(settings: Settings) -> list[str]:
    exit_code, stdout, stderr = run_process(settings, "doctor", "--json")
    assert exit_code in {0, 3}, f"doctor: {exit_code}, {stderr}"
    checks = json.loads(stdout)["checks"]
    return [f"{check['name']}: {check['detail']}" for check in checks if not check["ok"]]
