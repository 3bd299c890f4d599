"""`Usage:` says what people type, and the command line starts without the libraries that only some commands need."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tools.cli import app
from tools.command_examples import EXAMPLES

ROOT = Path(__file__).parents[2]


def usage(*command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"}
    ended = subprocess.run(
        [*command, "--help"], env=environment, capture_output=True, text=True, check=True
    )
    [line] = [line for line in ended.stdout.splitlines() if "Usage:" in line]
    return line.strip()


@pytest.mark.parametrize("command", [(), ("doctor",), ("audit", "as-of"), ("admin", "prompts")])
def test_a_checkout_is_used_through_tools_run(command: tuple[str, ...]) -> None:
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("tools/run would make a .venv of its own: the tests run in another environment")
    typed = " ".join(("tools/run", *command))
    assert usage(str(ROOT / "tools/run"), *command).startswith(f"Usage: {typed} ")


@pytest.mark.parametrize("command", [(), ("doctor",), ("audit", "as-of"), ("admin", "prompts")])
def test_an_installed_command_is_called_cjstream(command: tuple[str, ...], tmp_path: Path) -> None:
    script = tmp_path / "cjstream"  # as an installer writes it for the entry point
    script.write_text("from tools.cli import main\n\nmain()\n")
    typed = " ".join(("cjstream", *command))
    assert usage(sys.executable, str(script), *command).startswith(f"Usage: {typed} ")


def commands_of(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its words."""
    if not hasattr(command, "commands"):
        yield " ".join(words), command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands_of(child, (*words, name))


def test_every_help_ends_with_an_example_that_the_command_takes() -> None:
    commands = dict(commands_of(get_command(app)))
    assert EXAMPLES.keys() == commands.keys()
    for words, command in commands.items():
        assert command.epilog == f"Example: {EXAMPLES[words]}"
        _, _, arguments = EXAMPLES[words].partition(f"cjstream {words}")
        command.make_context(words, shlex.split(arguments))  # exits if one is wrong


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("adm", {"admin"}), ("topics a", {"apply", "acls", "abort-transaction"})],
)
def test_bash_completes_commands(typed: str, offered: set[str], tmp_path: Path) -> None:
    script = tmp_path / "cjstream"
    script.write_text(f"#!{sys.executable}\nfrom tools.cli import main\n\nmain()\n")
    script.chmod(0o755)
    words = " ".join(("cjstream", typed))
    complete = (
        "source <(cjstream --show-completion bash); "
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        'shown=$(complete -p cjstream); function=${shown#*-F }; "${function%% *}" cjstream; '
        'echo "${COMPREPLY[*]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "SHELL": "/bin/bash"}
    ended = subprocess.run(
        ["bash", "-c", complete], env=environment, capture_output=True, text=True, check=True
    )
    assert set(ended.stdout.split()) == offered, ended.stderr


SLOW_IMPORTS = """
import sys
from tools.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
slow = {"aiokafka", "avro", "confluent_kafka", "cryptography", "fastapi", "fastavro", "faust", "httpx", "jwt", "numpy"}
print("imported:", sorted(slow & set(sys.modules)))
"""


def test_help_imports_no_library_that_only_some_commands_need() -> None:
    command = [sys.executable, "-c", SLOW_IMPORTS]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize("command", ["broker start", "broker status", "uploads send -", "up"])
def test_a_data_folder_that_cannot_be_used_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    own = {
        **os.environ,
        "CJSTREAM_DATA_DIR": str(tmp_path / "file" / "data"),
        "CJSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tools", *command.split()],
        env={**own, "PYTHONPATH": str(ROOT)},
        input="{}",
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
