"""Workers as real processes, which a test may kill, freeze and restart."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processors.settings import Settings
from tests.support.run_command import ROOT, environment_of
from tests.support.until import until

STARTED_PHRASE = '"worker runs"'
WORKER = ("-m", "tools", "worker")


@dataclass
class Process:
    """A worker process that can be started again after its end; all of its runs log to one file."""

    settings: Settings
    log: Path
    command: Sequence[str] = WORKER
    environment: Mapping[str, str] = field(default_factory=dict)  # more, for the next start
    _starts_before: int = 0
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process, which must not be running."""
        assert not self.is_alive
        self._starts_before = self.log_count(STARTED_PHRASE)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT,
                env=environment_of(self.settings, **self.environment),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def wait_until_it_runs(self, seconds: float = 30) -> None:
        """Wait until the process that was started last has logged that it prepares batches."""
        until(
            lambda: self.log_count(STARTED_PHRASE) > self._starts_before or not self.is_alive,
            seconds,
        )
        assert self.is_alive, self.log_tail(5)

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        assert self._child is not None
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def is_frozen(self) -> bool:
        """Whether the process is stopped by a SIGSTOP, its own or another's."""
        if self._child is None or not self.is_alive:
            return False
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._child.pid, options) is not None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None if the process runs or was never started."""
        return self._child.poll() if self._child else None

    def kill(self) -> None:
        """Send SIGKILL, whatever the process is doing, and wait for its end."""
        self.signal(signal.SIGKILL)
        self.wait_for_exit(10)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process was started."""
        if self._child is not None:
            self._child.send_signal(number)

    def freeze(self) -> None:
        """Freeze the process with SIGSTOP until it is thawed."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process continue where it was."""
        self.signal(signal.SIGCONT)

    def wait_for_exit(self, seconds: float) -> int:
        """Wait until the process ends and return its exit code."""
        assert self._child is not None
        return self._child.wait(seconds)

    def stop(self, seconds: float = 10) -> int:
        """Send SIGTERM, wait until the process ends and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_for_exit(seconds)

    def request_stop(self) -> None:
        """Send SIGTERM without waiting for the end."""
        if self.is_alive:
            self.signal(signal.SIGTERM)

    def end(self) -> None:
        """Kill the process if it still runs, even frozen, and print the end of its log."""
        self.thaw()
        if self.is_alive:
            self.kill()
        print(f"--- {self.log.name}, ended with {self.exit_code}\n{self.log_tail()}")  # noqa: T201

    def log_count(self, phrase: str) -> int:
        """How often the phrase occurs in the log."""
        return self.log.read_text(errors="replace").count(phrase) if self.log.exists() else 0

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


StartWorker = Callable[..., Process]


@contextmanager
def starting(settings: Settings, folder: Path) -> Iterator[StartWorker]:
    """A function that starts a worker of an installation, which ends with the block: `start("slot", batch_max=200)`."""
    processes = list[Process]()

    def start(slot: str = "one", command: Sequence[str] = WORKER, **overrides: Any) -> Process:
        worker_settings = settings.model_copy(update={"slot": slot, **overrides})
        process = Process(worker_settings, folder / f"{slot or len(processes)}.log", command)
        processes.append(process)
        process.start()
        return process

    try:
        yield start
    finally:
        for process in processes:
            process.end()
