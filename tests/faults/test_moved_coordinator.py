"""After a group's coordinator has moved, fetching committed offsets raises Unreachable and does not crash."""

import subprocess
import sys

import pytest

from tests.faults.moved_coordinator import find_librdkafka
from tests.support.run_command import ROOT


@pytest.mark.skipif(
    find_librdkafka() is None,
    reason="the librdkafka of this confluent-kafka build is not accessible",
)
def test_fetching_offsets_after_the_coordinator_moved_raises_unreachable() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.faults.moved_coordinator"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("Unreachable: group group: ")
