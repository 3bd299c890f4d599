"""The test commands: CI runs the plain one and the rest, and these two leave nothing out."""

import os
import subprocess

import pytest

from tests.support.run_command import ROOT

# a part of the suite that has thorough tests, properties and others
SAMPLE = "tests/simulation/test_simulation.py tests/simulation/test_every_call.py tests/unit/fold"

PROPERTIES = {"test_offset_tracker.py", "test_changelog_producer.py"}  # of that part


@pytest.fixture(scope="module")
def collected() -> dict[str, set[str]]:
    """The tests of a part of the suite that each command runs."""
    return {option: collected_by(option) for option in ("", "--rest", "--all")}


def collected_by(option: str) -> set[str]:
    environment = {**os.environ, "PYTEST_ADDOPTS": f"--collect-only -q {SAMPLE}"}
    command = ["tools/run", "test", *option.split()]
    listed = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return {line for line in listed.stdout.splitlines() if "::" in line}


@pytest.mark.thorough
def test_the_plain_command_and_the_rest_leave_nothing_out(collected: dict[str, set[str]]) -> None:
    assert collected[""] | collected["--rest"] == collected["--all"]
    assert collected[""] < collected["--all"]


@pytest.mark.thorough
def test_only_properties_run_twice_with_few_and_with_many_examples(
    collected: dict[str, set[str]],
) -> None:
    twice = collected[""] & collected["--rest"]
    assert {test.split("::")[0].rpartition("/")[2] for test in twice} == PROPERTIES


def test_ci_runs_the_checks_the_readmes_test_command_and_the_rest() -> None:
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    assert ci[-4:] == [
        "tests=$(readme_test_command)",
        "tools/run check",
        'bash -c "$tests"',
        "tools/run test --rest",
    ]
