"""Everything that research runs need, as real processes on a test's broker; and the runner, here or as a process."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from processors.settings import Settings
from tests.end_to_end.serving import Serving, ready_api
from tests.faults.running import WORKER, Process
from tests.support.judged_batches import JUDGE
from tests.support.research_inputs import SCALE
from tests.support.run_command import ROOT, environment_of, run_main
from tests.support.tokens import hs256
from tests.support.until import until

# answers that no chance decides: two runs of the same texts compare alike
CERTAIN = {"lapse": 0, "delta": 0, "spread": 1.5}
SHARPNESS = 40  # every pair is certain


@dataclass(frozen=True)
class Ran:
    """A runner that ended: exit code, JSON document on stdout, and its log lines."""

    exit_code: int
    document: Any
    lines: list[dict[str, Any]]
    stderr: str

    def lines_of(self, phrase: str) -> list[dict[str, Any]]:
        """The log lines with this phrase."""
        return [line for line in self.lines if line["event"] == phrase]


@dataclass
class ResearchInstallation:
    """A running installation."""

    settings: Settings
    api: Serving
    judge: Process

    def variables(self, **more: str) -> dict[str, str]:
        """The environment of a runner."""
        own = {"CJ_ADMIN_TOKEN": hs256(), "CJ_ADMIN_BASE_URL": self.api.url}
        return environment_of(self.settings, **{**own, **more})

    def run(self, *arguments: str, **variables: str) -> Ran:
        """Run `cjstream run …` with --json in this process, because to start one takes seconds."""
        return ran(*run_main(self.variables(**variables), "run", *arguments, "--json"))

    def execute(self, root: Path, folder: Path, *more: str, **variables: str) -> Ran:
        """Run `execute` on the inputs in a root folder."""
        return self.run("execute", *inputs(root, folder), *more, **variables)

    def execute_in_process(
        self,
        module: tuple[str, ...],
        variables: Mapping[str, str],
        root: Path,
        folder: Path,
        *more: str,
    ) -> Ran:
        """Do so in a process of its own, which may be killed."""
        arguments = ("run", "execute", *inputs(root, folder), *more, "--json")
        done = subprocess.run(
            [sys.executable, *module, *arguments],
            cwd=ROOT,
            env=self.variables(**variables),
            capture_output=True,
            text=True,
            check=False,
        )
        return ran(done.returncode, done.stdout, done.stderr)


def inputs(root: Path, folder: Path) -> tuple[str, ...]:
    """The options that every run of these tests has."""
    return ("--root", str(root), "--scale", SCALE, "--folder", str(folder))


def ran(exit_code: int, stdout: str, stderr: str) -> Ran:
    """What a runner that ended left."""
    lines = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    try:
        document = json.loads(stdout)
    except json.JSONDecodeError:
        document = None
    return Ran(exit_code, document, lines, stderr)


def sharpened(thetas: Mapping[str, float]) -> dict[str, float]:
    """The qualities so far apart that no chance decides."""
    return {text: SHARPNESS * theta for text, theta in thetas.items()}


@contextmanager
def research_installation(
    settings: Settings, thetas: Mapping[str, float], **members: Any
) -> Iterator[ResearchInstallation]:
    """Start worker, judge and API, which wants a condition on every write.

    thetas: the qualities of the texts; members: others of the simulated judge.
    """
    simulated = json.dumps({**CERTAIN, "thetas": thetas, **members})
    values = {"judge": "simulated/sim-1", "simulated_judge": simulated, "require_if_match": True}
    own = settings.model_copy(update=values)
    worker = Process(own, own.data_dir / "worker.log", WORKER)
    judge = Process(own, own.data_dir / "judge.log", JUDGE)
    try:
        worker.start()
        judge.start()
        with ready_api(own) as api:
            for member in (worker, judge):  # preflight refuses a run that would wait for one
                until(partial(member.log_count, "fetching from the committed offsets"), 60)
            yield ResearchInstallation(own, api, judge)
    finally:
        judge.end()
        worker.end()
