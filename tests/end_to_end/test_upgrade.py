"""An upgrade from an earlier release, with its own code and packages, to this one, on one data folder and log."""

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from processors.settings import Settings
from tests.faults.reading import read_all
from tests.faults.running import Process
from tests.support.run_command import ROOT, environment_of, run_json
from tests.support.until import until
from tools.broker import Broker

OLD = "d39448d"
FOLDER = (
    ROOT / ".cjstream" / "releases" / OLD
)  # kept, because its packages take a minute to install
INSTALL_S = 600
PATIENCE_S = 120
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(INSTALL_S + 300)]
ESSAYS = [{"essay_id": f"e-{n}", "text_storage_id": f"t-{n}"} for n in range(2)]


@pytest.fixture(scope="module")
def old_release() -> Path:
    """The earlier release, installed; skips the tests where there is no history or its packages cannot be had."""
    git = shutil.which("git")
    if git is None or not _git("cat-file", "-e", f"{OLD}^{{commit}}"):
        pytest.skip(f"no git history here with the earlier release {OLD}")
    if not (FOLDER / "tools" / "run").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        archive = FOLDER / "release.tar"
        assert _git("archive", "-o", str(archive), OLD)
        shutil.unpack_archive(archive, FOLDER, filter="data")
    installed = subprocess.run(
        ["bash", "tools/run", "--help"],
        cwd=FOLDER,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"the earlier release cannot be installed: {installed.stderr[-200:]}")
    return FOLDER


def _git(*arguments: str) -> bool:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    return done.returncode == 0


class OldRelease:
    """Commands of the earlier release on an installation."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings = folder, settings
        self._environment = {**environment_of(settings), "PYTHONPATH": str(folder)}

    def run(self, *command: str) -> None:
        """Run a command, which must succeed."""
        done = subprocess.run(
            self._command(*command),
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    @contextmanager
    def worker(self, log: Path) -> Iterator[None]:
        """A worker while the block runs; then it is asked to stop, and must."""
        with log.open("wb") as file:
            process = subprocess.Popen(
                self._command("worker"),
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()[-2000:]
        finally:
            process.kill()
            process.wait()

    def _command(self, *arguments: str) -> list[str]:
        return [str(self._folder / ".venv" / "bin" / "python"), "-P", "-m", "tools.cli", *arguments]


def lines(folder: Path, name: str, documents: list[dict[str, Any]]) -> str:
    """A new file with these documents."""
    file = folder / name
    file.write_text("".join(f"{json.dumps(document)}\n" for document in documents))
    return str(file)


def uploads(*assignments: str) -> list[dict[str, Any]]:
    """Instructions of these assignments."""
    fixed = {"type": "instructions", "grade_scale": "swedish_8_anchor", "text": "Judge clarity."}
    return [{**fixed, "assignment_id": name} for name in assignments]


def prompts(*assignments: str) -> list[dict[str, Any]]:
    """Student prompts of these assignments."""
    fixed = {"type": "student_prompt", "text": "Write about a rule."}
    return [{**fixed, "assignment_id": name} for name in assignments]


def requests(prefix: str, assignment_id: str, count: int) -> list[dict[str, Any]]:
    """Requests for an assignment."""
    fixed = {"course_code": "ENG5", "language": "en", "essays": ESSAYS}
    return [
        {**fixed, "batch_id": f"{prefix}-{n}", "assignment_id": assignment_id} for n in range(count)
    ]


def prepared(settings: Settings) -> Counter[bytes | None]:
    """How many prepared batches each request has, by its key."""
    name = settings.topics.batches.name
    return Counter(r.key for r in read_all(settings.bootstrap_servers, name, settings.partitions))


def test_a_release_takes_over_data_folder_and_log_of_an_earlier_one(
    old_release: Path, broker: Broker, tmp_path: Path
) -> None:
    settings = Settings(
        bootstrap_servers=broker.bootstrap,
        topic_prefix=f"{uuid4().hex[:8]}-",
        data_dir=tmp_path / "data",
        slot="one",
        patience_s=3600,
    )
    old = OldRelease(old_release, settings)
    old.run("topics", "apply")
    old.run(
        "uploads", "send", lines(tmp_path, "old.jsonl", [*uploads("a1", "late"), *prompts("a1")])
    )
    old.run("requests", "send", lines(tmp_path, "r1.jsonl", requests("before", "a1", 20)))
    old.run("requests", "send", lines(tmp_path, "r2.jsonl", requests("parked", "late", 10)))
    with old.worker(tmp_path / "old.log"):
        until(lambda: prepared(settings).total() == 20, PATIENCE_S)
        parked = settings.topics.parked.name
        until(
            lambda: len(read_all(broker.bootstrap, parked, settings.partitions)) == 10, PATIENCE_S
        )
    old.run("requests", "send", lines(tmp_path, "r3.jsonl", requests("between", "a1", 10)))

    assert run_json(settings, "topics", "apply")[0] == 0
    worker = Process(settings, tmp_path / "new.log")
    try:
        worker.start()
        until(lambda: prepared(settings).total() == 30 or not worker.is_alive, PATIENCE_S)
        sent = lines(tmp_path, "new.jsonl", prompts("late"))
        assert run_json(settings, "uploads", "send", sent)[0] == 0
        after = lines(tmp_path, "r4.jsonl", requests("after", "late", 10))
        assert run_json(settings, "requests", "send", after)[0] == 0
        until(lambda: prepared(settings).total() == 50 or not worker.is_alive, PATIENCE_S)
        assert worker.is_alive, worker.log_tail(5)
    finally:
        worker.end()
    names = [("before", 20), ("parked", 10), ("between", 10), ("after", 10)]
    expected = {f"{name}-{n}".encode(): 1 for name, count in names for n in range(count)}
    assert prepared(settings) == expected
    code, verified, messages = run_json(settings, "audit", "verify")
    assert code == 0, messages
    assert (verified["counts"]["requests"], verified["findings"]) == (50, []), verified
    code, history, messages = run_json(settings, "audit", "history", "late")
    assert (code, [item["role"] for item in history["items"]]) == (
        0,
        ["student_prompt", "instructions"],
    ), messages
