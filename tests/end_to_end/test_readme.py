"""The README's commands, run as a reader would run them."""

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tools.broker import free_port
from tools.children import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
UP, CURL, JOIN = BLOCKS[2:5]
AUDIT = next(block for block in BLOCKS if "audit as-of" in block)
PORT = "9095"


def test_the_two_commands_stand_alone() -> None:
    assert BLOCKS[:2] == ["tools/run demo\n", "tools/run test\n"]


def test_the_commands_by_hand_do_what_the_readme_says(tmp_path: Path) -> None:
    """From `up` to its end: an assignment, a stale update, a request, its batch, an auditor's five questions."""
    (tmp_path / "kafka-libs").symlink_to(ROOT / ".cjstream" / "kafka-libs")
    joined, end = JOIN.split("kill $up", 1)
    blocks = [UP, CURL] if shutil.which("curl") else [UP]
    blocks += [joined + AUDIT + "kill $up" + end]
    told = _run(tmp_path, "\n".join(blocks))
    assert "current version is 2" in told  # what the stale update was answered
    assert re.search(r"batch-1  2 essays  assignment: .*student_prompt v2", told)
    assert "NOT OK" not in told
    assert re.search(r"student_prompt .*uploaded.* 2 ", told)
    assert re.search(r"^verified$", told, re.MULTILINE)
    assert "march.seal: holds" in told
    assert ": 0 differences" in told
    if CURL not in blocks:
        pytest.skip("no curl here: the block that uses it was left out, the others were run")
    assert re.findall(r"^\d{3}$", told, re.MULTILINE) == ["200", "412"]


def _run(folder: Path, script: str) -> str:
    """What the shell printed, its stderr too; whatever it left running is ended."""
    port = str(free_port())
    environment = {
        **os.environ,
        "HOME": str(folder),
        "CJSTREAM_DATA_DIR": str(folder),
        "CJSTREAM_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "CJSTREAM_API_PORT": port,
        "CJ_ADMIN_BASE_URL": f"http://127.0.0.1:{port}",
        "CJ_ADMIN_TOKEN_PATH": str(folder / "token.json"),
    }
    log = folder / "said.txt"
    with log.open("w") as said:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script.replace(PORT, port)],
            cwd=ROOT,
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            code = shell.wait(timeout=170)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            stop = ["tools/run", "broker", "stop"]
            subprocess.run(stop, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert code == 0, log.read_text()
    return log.read_text()


def test_every_folder_and_file_that_it_names_is_there() -> None:
    named = re.findall(r"`((?:schemas|tables|processors|tools|tests)/[\w./-]*)`", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
