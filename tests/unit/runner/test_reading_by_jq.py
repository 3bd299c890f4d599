import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.simulated_runs import run_of
from tools.processes import ROOT
from tools.runner.artefact_file import write_artefact

PAGE = (ROOT / "tools/reference/research-runs.md").read_text()
COMMANDS = [one.replace(r"\|", "|") for one in re.findall(r"`(jq -r [^`]+)`", PAGE)]


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_every_jq_command_of_the_page_answers(tmp_path: Path) -> None:
    write_artefact(tmp_path / "artefact.json", run_of(6, 2))
    assert len(COMMANDS) == 7
    for command in COMMANDS:
        done = subprocess.run(
            shlex.split(command), cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        is_about_failures = "select(" in command
        assert bool(done.stdout) is not is_about_failures, command
