"""Every measurement with tiny numbers: its counts add up and nothing of it is left. No figure is judged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEASURED_S = 360
pytestmark = pytest.mark.timeout(400)


def measured(folder: Path, *arguments: str) -> Any:
    command = [sys.executable, "-W", "error", "-m", "tools.cli", "bench", *arguments, "--json"]
    variables = {**os.environ, "TMPDIR": str(folder), "CJSTREAM_SESSION_TIMEOUT_S": "6"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=variables, stdout=pipe, stderr=pipe, cwd=ROOT) as measuring:
        try:
            answer, told = measuring.communicate(timeout=MEASURED_S)
        finally:
            measuring.terminate()  # not killed: it ends its broker and its workers first
    assert measuring.returncode == 0, told.decode()
    assert list(folder.iterdir()) == []
    found = json.loads(answer)
    assert found["machine"].keys() == {"system", "cores", "load", "python", "kafka"}
    return found


def test_releases_are_measured_one_by_one_and_in_a_crowd(tmp_path: Path) -> None:
    found = measured(tmp_path, "release", "--requests", "3", "--crowd", "30", "--rate", "20")
    assert (found["requests"], found["outcomes"]) == (3, 3)
    assert found["outcome_ms"]["count"] == found["visible_ms"]["count"] == 3
    assert found["outcome_ms"]["max"] <= found["visible_ms"]["max"]
    crowd = found["crowd"]
    assert (crowd["requests"], crowd["outcomes"]) == (30, 30)
    assert crowd["ordinary_quiet_ms"]["count"] > 0


def test_a_rebalance_is_measured(tmp_path: Path) -> None:
    told = ("--times", "1", "--rate", "20", "--quiet", "1", "--protocol", "consumer")
    found = measured(tmp_path, "rebalance", *told)
    assert found["protocol"] == "consumer"
    assert found["requests"] == found["outcomes"] > 20
    moves = (found["joins"], found["leaves"])
    assert [(one["count"], one["pause_ms"]["count"]) for one in moves] == [(1, 1), (1, 1)]
    assert [one["pause_ms"]["max"] - one["latency_ms"]["max"] for one in moves] == [0, 0]
    parts = [found["quiet_ms"], *(one["latency_ms"] for one in moves)]
    assert sum(part["count"] for part in parts) >= found["requests"]


def test_a_recovery_is_measured_with_a_slot_and_without(tmp_path: Path) -> None:
    found = measured(tmp_path, "recovery", "--times", "1", "--rate", "20")
    assert (found["protocol"], found["session_timeout_s"]) == ("classic", 6)
    for kind in ("restarted", "taken_over"):
        one = found[kind]
        assert one["kills"] == 1
        assert one["requests"] == one["outcomes"] > 20
        steps = ("first_outcome_s", "every_partition_s", "caught_up_s")
        maxima = [one[step]["max"] for step in steps]
        assert maxima == sorted(maxima)
        assert maxima == [one[step]["median"] for step in steps]


def test_the_api_is_measured_with_two_processes(tmp_path: Path) -> None:
    told = ("--processes", "2", "--assignments", "2", "--rate", "10", "--seconds", "2")
    found = measured(tmp_path, "api", *told)
    assert (found["processes"], found["requests"]) == (2, 20)
    for kind in ("get_assignment", "upload_prompt"):
        one = found[kind]
        assert one["latency_ms"]["count"] == sum(one["statuses"].values()) == 10
        assert one["statuses"].keys() <= {"200", "409", "503"}


def test_the_audit_is_measured_on_a_log_that_it_finds_right(tmp_path: Path) -> None:
    told = ("--uploads", "300", "--assignments", "30", "--batches", "100")
    found = measured(tmp_path, "audit", *told)
    assert (found["uploads"], found["assignments"], found["batches"]) == (300, 30, 100)
    assert found["verify"]["said"]["uploads"] == found["replay"]["said"]["records"] == 300
    assert found["verify"]["said"]["counts"]["requests"] == 100
    assert found["replay"]["said"]["scopes"] == 30
