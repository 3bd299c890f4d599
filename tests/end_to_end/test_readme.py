"""The commands of the README and of the reference pages, run as a reader runs them."""

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tools.broker import free_port
from tools.processes import ROOT
from tools.runner.artefact_file import read_artefact

PAGES = {path.stem: path.read_text() for path in (ROOT / "tools/reference").glob("*.md")}
PAGES["README"] = (ROOT / "README.md").read_text()


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", PAGES[page], re.DOTALL)


DEMO, TEST, UP, JOIN = blocks_of("README")
(CURL,) = blocks_of("api")
OPERATION = "".join(blocks_of("operations"))
AUDIT, ERASE = blocks_of("audit")
(JUDGING,) = blocks_of("judging")
(RESEARCH,) = blocks_of("research-runs")
PORT = "9095"


def test_the_first_two_blocks_are_single_commands() -> None:
    assert (DEMO, TEST) == ("tools/run demo\n", "tools/run test\n")


def test_every_block_of_commands_is_run() -> None:
    assert {page for page in PAGES if blocks_of(page)} == {
        "README",
        "api",
        "operations",
        "audit",
        "judging",
        "research-runs",
    }


@pytest.mark.thorough
@pytest.mark.timeout(400)  # about forty commands, each a process
def test_the_manual_commands_do_what_the_readme_says(tmp_path: Path) -> None:
    """From `up` to its end: an assignment, a stale update, a request, its outcome, operation, audit, erasure."""
    (tmp_path / "kafka-libs").symlink_to(ROOT / ".cjstream" / "kafka-libs")
    joined, end = JOIN.split("kill $up", 1)
    blocks = [UP, CURL] if shutil.which("curl") else [UP]
    no_example = re.sub(r"^.*TOPIC/PARTITION.*\n", "", OPERATION, flags=re.MULTILINE)
    worker_runs = re.sub(r" +# refused while a worker runs", " || test $? = 1", no_example)
    texts_too_young = re.sub(r" +#.*", " || test $? = 3", ERASE)
    blocks += [joined + worker_runs + AUDIT + texts_too_young + "kill $up" + end]
    output = run_script(tmp_path, "\n".join(blocks))
    assert "current version is 2" in output  # the answer to the stale update
    assert re.search(r"batch-1  2 essays  assignment: .*student_prompt v2", output)
    assert re.search(r"ada in\s+batch\s+batch-1:\s+score", output)
    assert "NOT OK" not in output
    assert "stop all workers first" in output
    assert re.search(r"student_prompt .*uploaded.* 2 ", output)
    assert re.search(r"^verified$", output, re.MULTILINE)
    assert "march.seal: holds" in output
    assert ": 0 differences" in output
    if CURL not in blocks:
        pytest.skip("curl is not installed: its block was skipped, the other blocks ran")
    assert re.findall(r"^\d{3}$", output, re.MULTILINE) == ["200", "412"]


@pytest.mark.thorough
def test_the_page_on_judging_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "kafka-libs").symlink_to(ROOT / ".cjstream" / "kafka-libs")
    files = re.sub(r"(request.json|result.json)", rf"{tmp_path}/\1", JUDGING)
    output = run_script(tmp_path, files)
    assert re.search(r"class-9a .*(complete|partial)", output)
    for essay in ("ada", "bo", "cy"):
        assert re.search(rf"[1-3]-[1-3] .* {essay} .*-o?-", output), output
    assert re.search(r"ada in batch class-9a: score", output)
    assert "0 outcomes" not in output
    assert output.count("verified") >= 1
    assert "NOT verified" not in output


@pytest.mark.thorough
@pytest.mark.timeout(400)
def test_the_page_on_research_runs_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "kafka-libs").symlink_to(ROOT / ".cjstream" / "kafka-libs")
    runs = tmp_path / "runs"
    output = run_script(tmp_path, RESEARCH.replace("runs=research-runs", f"runs={runs}"))
    for name in ("trial", "spring", "again"):
        assert read_artefact(runs / name / "artefact.json")["metadata"]["outcome"] == "complete"
        assert (runs / name / "report.html").stat().st_size < 1_000_000
    assert "runner_validation_state" in output
    assert "cj_run_exit_code" in (runs / "spring.prom").read_text()
    assert "1 outcomes in" in output  # that were verified
    assert "NOT verified" not in output


def run_script(folder: Path, script: str) -> str:
    """The output of a shell script, stderr included; processes that it leaves behind are ended."""
    port = str(free_port())
    environment = {
        **os.environ,
        "HOME": str(folder),
        "CJSTREAM_DATA_DIR": str(folder),
        "CJSTREAM_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "CJSTREAM_API_PORT": port,
        "CJ_ADMIN_TOKEN_PATH": str(folder / "token.json"),
    }
    log = folder / "output.txt"
    with log.open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script.replace(PORT, port)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = shell.wait(timeout=320)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            stop = ["tools/run", "broker", "stop"]
            subprocess.run(stop, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert code == 0, log.read_text()
    return log.read_text()


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_folder_and_file_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"`((?:schemas|tables|processors|tools|tests)/[\w./-]*)`", PAGES[page])
    assert [name for name in named if not (ROOT / name).exists()] == []
    folder = ROOT if page == "README" else ROOT / "tools/reference"
    links = re.findall(r"\]\(([\w./-]+)\)", PAGES[page])
    assert [link for link in links if not (folder / link).exists()] == []
