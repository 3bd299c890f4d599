"""A coordinator that moved: whoever asks for committed offsets is told so, and lives."""

import subprocess
import sys

import pytest

from tests.faults.moved_coordinator import library
from tests.faults.running import ROOT


@pytest.mark.skipif(library() is None, reason="this build of confluent-kafka hides its librdkafka")
def test_asking_a_coordinator_that_moved_is_refused_and_ends_no_process() -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "tests.faults.moved_coordinator"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("Unreachable: group group: ")
