"""What runs a run: release, source, platform and packages."""

import importlib.metadata
import os
import platform
import tomllib
from pathlib import Path

from tools.runner.manifest import Environment
from tools.runner.source_revision import source_revision

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("confluent-kafka", "fastavro", "jsonschema", "matplotlib", "numpy", "python-docx"),
    *("rfc8785", "rustworkx", "scipy"),
)


def run_environment(now_ms: int) -> Environment:
    """The environment of this process."""
    return Environment(
        version=_version("cjstream") or _version_in_checkout(),
        revision=source_revision(os.environ),
        platform=platform.platform(),
        python=platform.python_version(),
        packages={name: _version(name) or "unknown" for name in PACKAGES},
        planned_at_ms=now_ms,
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version_in_checkout() -> str:
    """The version of a source tree that is not installed as a package."""
    try:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        return str(project["version"])
    except (OSError, tomllib.TOMLDecodeError, KeyError):
        return "unknown"
