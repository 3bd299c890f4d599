"""`Usage:` says what people type, and the command line starts without the libraries that only some commands need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
        [sys.executable, "-P", "-m", "tools.cli", *command.split()],
        env={**own, "PYTHONPATH": str(ROOT)},
        input="{}",
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
