"""The folder of a run: its manifest, the steps that were done, artefact and report. One process at a time.

Each step is noted in run.json before it begins and after it is done, so that a run that was killed continues from
there. Files are replaced atomically.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from schemas.errors import CJStreamError, Malformed
from tools.admin.files import replace
from tools.runner.manifest import Manifest, manifest_from

STATE, MANIFEST, LOCK = "run.json", "manifest.json", ".lock"
ARTEFACT, REPORT = "artefact.json", "report.html"
MODE = 0o644
FORMAT = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class RunIsLocked(CJStreamError):
    """Another process works on the run."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run's folder. Its methods raise OSError if the disk refuses, CJStreamError if the folder is damaged."""

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from working on the run. Raises RunIsLocked."""
        with os.fdopen(os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600), "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as fault:
                raise RunIsLocked(f"{self.path}: another process works on this run") from fault
            yield

    @property
    def state(self) -> dict[str, Any]:
        """What was noted of each step."""
        try:
            state = orjson.loads((self.path / STATE).read_bytes())
            if not isinstance(state, dict) or not isinstance(state.get("steps"), dict):
                raise ValueError
        except FileNotFoundError:
            return {"steps": {}}
        except ValueError as fault:
            raise Malformed(f"{self.path / STATE}: not a run's notes") from fault
        return state

    def is_done(self, step: str) -> bool:
        """Whether a step is done."""
        return bool(self.state["steps"].get(step, {}).get("state") == "done")

    def facts_of(self, step: str) -> Mapping[str, Any]:
        """What was noted of a step; empty if it never began."""
        facts: Mapping[str, Any] = self.state["steps"].get(step, {}).get("facts", {})
        return facts

    def note(self, step: str, state: str, **facts: Any) -> None:
        """Note that a step has begun or is done, with facts that are added to those known of it."""
        noted = self.state
        known = noted["steps"].get(step, {}).get("facts", {})
        noted["steps"][step] = {"state": state, "facts": {**known, **facts}}
        self.write(STATE, orjson.dumps(noted, option=FORMAT))

    def write(self, name: str, content: bytes) -> None:
        """Create or replace a file of the folder."""
        replace(self.path / name, content, MODE)

    def manifest(self) -> Manifest:
        """The manifest of the run."""
        try:
            return manifest_from((self.path / MANIFEST).read_bytes())
        except (OSError, Malformed) as fault:
            raise Malformed(f"{self.path / MANIFEST}: {fault}") from fault


def new_folder(path: Path) -> RunFolder:
    """A new folder for a run. Raises CJStreamError if there is a run in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise CJStreamError(f"{path}: cannot be created: {fault.strerror}") from fault
    if (path / STATE).exists():
        raise CJStreamError(f"{path}: has a run already: resume it, or name another folder")
    return RunFolder(path)
