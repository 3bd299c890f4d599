"""The revision of cjstream's source: CJSTREAM_GIT_SHA, else what git says of the checkout, else UNKNOWN."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "CJSTREAM_GIT_SHA"
UNKNOWN = "UNKNOWN"
SHA = re.compile(r"[0-9a-f]{7,64}")
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class SourceRevision:
    """A git sha, or UNKNOWN; is_dirty: whether tracked files differ from it, None where nobody knows."""

    sha: str
    is_dirty: bool | None


def source_revision(environment: Mapping[str, str], root: Path = ROOT) -> SourceRevision:
    """The revision of the source in a folder."""
    given = environment.get(VARIABLE, "").strip().lower()
    if SHA.fullmatch(given):
        return SourceRevision(given, None)
    sha = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if sha is None or not SHA.fullmatch(sha):
        return SourceRevision(UNKNOWN, None)
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return SourceRevision(sha, None if changed is None else bool(changed))


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None without git."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
