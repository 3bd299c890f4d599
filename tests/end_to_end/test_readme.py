"""The README's commands, run as a reader would run them."""

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tools.broker import free_port
from tools.children import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
BY_HAND = next(block for block in BLOCKS if "broker start" in block)


def test_the_two_commands_stand_alone() -> None:
    assert BLOCKS[:2] == ["tools/run demo\n", "tools/run test\n"]


def test_the_commands_by_hand_do_what_the_readme_says(tmp_path: Path) -> None:
    """From a broker's start to its stop: an upload, a request and the enriched batch."""
    (tmp_path / "kafka-libs").symlink_to(ROOT / ".cjstream" / "kafka-libs")
    environment = {
        **os.environ,
        "CJSTREAM_DATA_DIR": str(tmp_path),
        "CJSTREAM_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
    }
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", BY_HAND],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        told, grumbled = shell.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):  # whatever it left running
            os.killpg(shell.pid, signal.SIGKILL)
        stop = ["tools/run", "broker", "stop"]
        subprocess.run(stop, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert shell.returncode == 0, told + grumbled
    assert "batch-1" in told
    assert "NOT OK" not in told


def test_every_folder_and_file_that_it_names_is_there() -> None:
    named = re.findall(r"`((?:schemas|tables|processors|tools|tests)/[\w./-]*)`", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
