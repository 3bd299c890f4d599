"""With --json, every failure of every command is one document on stdout, and says the same on stderr."""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.contract.test_usage import commands_of
from tests.support.run_command import run_main
from tools.cli import app
from tools.command_examples import EXAMPLES

JSON_COMMANDS = [
    words
    for words, command in commands_of(get_command(app))
    if any("--json" in parameter.opts for parameter in command.params)
]
# they need neither a broker nor a file
SUCCEED = (
    "admin logout",
    "admin scales list",
    "audit seal-key",
    "models list",
    "models show",
    "models prices",
)
MAKE_A_BROKER = ("demo", "bench")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of a user without files, at whose address nothing answers."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CJ", "JWT_", "SCHEMA_REGISTRY_", "IDENTITY_"))
    }
    own = {
        "HOME": str(tmp_path),
        "CJSTREAM_DATA_DIR": str(tmp_path / "data"),
        "CJSTREAM_PARTITIONS": "0",  # refused
        "CJ_ADMIN_BASE_URL": "http://127.0.0.1:9",
    }
    with chdir(tmp_path):
        yield {**inherited, **own}


def failure_of(environment: dict[str, str], *command: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the only document on stdout, and stderr."""
    exit_code, out, err = run_main(environment, *command)
    assert out.count("\n") == 1, (command, out, err)
    return exit_code, json.loads(out), err


def assert_problem(problem: dict[str, Any], exit_code: int) -> None:
    assert problem["type"].startswith("urn:cjstream:failure:")
    assert set(problem) == {"type", "title", "detail", "exit_code"}
    assert (problem["exit_code"], exit_code != 0) == (exit_code, True)


@pytest.mark.parametrize("words", JSON_COMMANDS)
def test_a_wrong_option_is_one_document(environment: dict[str, str], words: str) -> None:
    exit_code, problem, err = failure_of(environment, *words.split(), "--json", "--no-such-option")
    assert exit_code == 2
    assert_problem(problem, 2)
    assert "--no-such-option" in problem["detail"]
    assert "--no-such-option" in err


@pytest.mark.parametrize(
    "words", [words for words in JSON_COMMANDS if not words.startswith(MAKE_A_BROKER)]
)
def test_a_failure_of_a_command_is_one_document(environment: dict[str, str], words: str) -> None:
    arguments = shlex.split(EXAMPLES[words].partition(f"cjstream {words}")[2])
    given = [argument for argument in arguments if argument not in ("--json", "--follow")]
    exit_code, problem, err = failure_of(environment, *words.split(), *given, "--json")
    if words in SUCCEED and exit_code == 0:
        return
    assert_problem(problem, exit_code)
    assert "Traceback" not in err
    assert problem["detail"].split()[0] in err


def test_a_command_that_does_not_exist_is_one_document(environment: dict[str, str]) -> None:
    for command in (("uploads", "sand"), ("no-such-command",), ("topics",)):
        exit_code, problem, _ = failure_of(environment, *command, "--json")
        assert exit_code == 2
        assert_problem(problem, 2)


def test_after_two_hyphens_json_is_no_option(environment: dict[str, str]) -> None:
    exit_code, out, err = run_main(environment, "requests", "send", "--", "--json")
    assert (exit_code, out) == (2, "")
    assert err


def test_without_json_nothing_is_on_stdout(environment: dict[str, str]) -> None:
    exit_code, out, err = run_main(environment, "doctor")
    assert (exit_code, out, err.count("\n")) == (2, "", 1)
