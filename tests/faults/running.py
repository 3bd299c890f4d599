"""Workers as real processes, which a test may kill, freeze and restart."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from processors.settings import Settings, variable_of
from tests.support.until import until

ROOT = Path(__file__).parents[2]
RUNS = '"worker runs"'
WORKER = ("-m", "tools.cli", "worker")


@dataclass
class Process:
    """One worker and, after a kill, its next lives; every line they log goes to one file."""

    settings: Settings
    log: Path
    command: Sequence[str] = WORKER
    environment: Mapping[str, str] = field(default_factory=dict)  # on top, for the next life
    _runs_before: int = 0
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it; it must not run."""
        assert not self.is_alive
        self._runs_before = self.said(RUNS)
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith("CJSTREAM_")
        }
        for name, value in self.settings.model_dump(mode="json", exclude_defaults=True).items():
            told = ",".join(value) if isinstance(value, list) else str(value)
            variables[variable_of(name)] = told
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT,
                env={**variables, **self.environment, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def wait_until_it_runs(self, seconds: float = 30) -> None:
        """Wait until this life has said that it prepares batches."""
        until(lambda: self.said(RUNS) > self._runs_before or not self.is_alive, seconds)
        assert self.is_alive, self.last_words(5)

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def is_frozen(self) -> bool:
        """Whether a SIGSTOP, its own or another's, holds it."""
        if self._child is None or not self.is_alive:
            return False
        now = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._child.pid, now) is not None

    @property
    def exit_code(self) -> int | None:
        """What its last life ended with; negative is the signal."""
        return self._child.poll() if self._child else None

    def kill(self) -> None:
        """End it with SIGKILL, wherever it stands."""
        self.signal(signal.SIGKILL)
        self.ended(10)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._child is not None:
            self._child.send_signal(number)

    def freeze(self) -> None:
        """Freeze it until it is thawed."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, as if no time had passed."""
        self.signal(signal.SIGCONT)

    def ended(self, seconds: float) -> int:
        """Wait for its end and give its exit code."""
        assert self._child is not None
        return self._child.wait(seconds)

    def stop(self, seconds: float = 10) -> int:
        """End it in good order and give its exit code."""
        self.signal(signal.SIGTERM)
        return self.ended(seconds)

    def stop_soon(self) -> None:
        """Ask it to end in good order, and do not wait."""
        if self.is_alive:
            self.signal(signal.SIGTERM)

    def said(self, phrase: str) -> int:
        """How many of its lines have the phrase."""
        return self.log.read_text(errors="replace").count(phrase) if self.log.exists() else 0

    def last_words(self, lines: int = 40) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


StartWorker = Callable[..., Process]
