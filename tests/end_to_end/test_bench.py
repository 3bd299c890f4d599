"""Every measurement with small numbers: its counts are correct and no file is left; the figures are not checked."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.bench.join.run import NAMES, STREAMS

ROOT = Path(__file__).parents[2]
MEASURED_S = 360
pytestmark = pytest.mark.timeout(400)


def measure(folder: Path, *arguments: str, **variables: str) -> Any:
    command = [sys.executable, "-W", "error", "-m", "tools", "bench", *arguments, "--json"]
    own = {"TMPDIR": str(folder), "CJSTREAM_SESSION_TIMEOUT_S": "6"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=os.environ | own | variables, stdout=pipe, stderr=pipe, cwd=ROOT
    ) as measuring:
        try:
            output, errors = measuring.communicate(timeout=MEASURED_S)
        finally:
            measuring.terminate()  # SIGTERM, not SIGKILL: it stops its broker and its workers first
    assert measuring.returncode == 0, errors.decode()
    assert list(folder.iterdir()) == []
    figures = json.loads(output)
    assert figures["machine"].keys() == {"system", "cores", "load", "python", "kafka"}
    return figures


@pytest.mark.thorough
def test_releases_are_measured_one_by_one_and_in_a_crowd(tmp_path: Path) -> None:
    figures = measure(tmp_path, "release", "--requests", "3", "--crowd", "30", "--rate", "20")
    assert (figures["requests"], figures["outcomes"]) == (3, 3)
    assert figures["outcome_ms"]["count"] == figures["visible_ms"]["count"] == 3
    assert figures["outcome_ms"]["max"] <= figures["visible_ms"]["max"]
    crowd = figures["crowd"]
    assert (crowd["requests"], crowd["outcomes"]) == (30, 30)
    assert crowd["ordinary_quiet_ms"]["count"] > 0


@pytest.mark.thorough
def test_a_rebalance_is_measured(tmp_path: Path) -> None:
    options = ("--times", "1", "--rate", "20", "--quiet", "1", "--protocol", "consumer")
    figures = measure(tmp_path, "rebalance", *options)
    assert figures["protocol"] == "consumer"
    assert figures["requests"] == figures["outcomes"] > 20
    moves = (figures["joins"], figures["leaves"])
    assert [(move["count"], move["pause_ms"]["count"]) for move in moves] == [(1, 1), (1, 1)]
    assert [move["pause_ms"]["max"] - move["latency_ms"]["max"] for move in moves] == [0, 0]
    spreads = [figures["quiet_ms"], *(move["latency_ms"] for move in moves)]
    assert sum(spread["count"] for spread in spreads) >= figures["requests"]


@pytest.mark.thorough
def test_a_recovery_is_measured_with_a_slot_and_without(tmp_path: Path) -> None:
    figures = measure(tmp_path, "recovery", "--times", "1", "--rate", "20")
    assert (figures["protocol"], figures["session_timeout_s"]) == ("classic", 6)
    for kind in ("restarted", "taken_over"):
        recovery = figures[kind]
        assert recovery["kills"] == 1
        assert recovery["requests"] == recovery["outcomes"] > 20
        steps = ("first_outcome_s", "every_partition_s", "caught_up_s")
        maxima = [recovery[step]["max"] for step in steps]
        assert maxima == sorted(maxima)
        assert maxima == [recovery[step]["median"] for step in steps]


@pytest.mark.thorough
def test_the_api_is_measured_with_two_processes(tmp_path: Path) -> None:
    options = ("--processes", "2", "--assignments", "2", "--rate", "10", "--seconds", "2")
    figures = measure(tmp_path, "api", *options)
    assert (figures["processes"], figures["requests"]) == (2, 20)
    for kind in ("get_assignment", "upload_prompt"):
        calls = figures[kind]
        assert calls["latency_ms"]["count"] == sum(calls["statuses"].values()) == 10
        assert calls["statuses"].keys() <= {"200", "409", "503"}


@pytest.mark.thorough
def test_the_audit_is_measured_on_a_log_that_verify_finds_correct(tmp_path: Path) -> None:
    options = ("--uploads", "300", "--assignments", "30", "--batches", "100")
    figures = measure(tmp_path, "audit", *options)
    assert (figures["uploads"], figures["assignments"], figures["batches"]) == (300, 30, 100)
    assert figures["verify"]["said"]["uploads"] == figures["replay"]["said"]["records"] == 300
    assert figures["verify"]["said"]["counts"]["requests"] == 100
    assert figures["replay"]["said"]["scopes"] == 30


@pytest.mark.thorough
def test_the_rebuilds_of_a_replica_are_measured(tmp_path: Path) -> None:
    options = ("--uploads", "500", "--assignments", "100", "--times", "2")
    figures = measure(tmp_path, "replica", *options)
    assert (figures["uploads"], figures["scopes"], figures["rounds"]) == (500, 100, 2)
    assert [result["system"] for result in figures["results"]] == ["cjstream", "cjstream-plain"]
    for result in figures["results"]:
        assert [run["scopes"] for run in (*result["runs"], *result["warm_restarts"])] == [100] * 4
        assert result["per_second_max"] >= result["per_second"] >= result["per_second_min"] > 0
        assert min(result["cpu_us_per_record"], result["rss_mb"], result["warm_restart_ms"]) > 0


@pytest.mark.thorough
def test_the_join_is_measured_beside_its_peers(tmp_path: Path) -> None:
    sizes = ("--requests", "300", "--warm-up", "100", "--cool-down", "50", "--contexts", "20")
    figures = measure(tmp_path, "join", *sizes, "--rounds", "1", CJSTREAM_BATCH_MAX="50")
    assert (figures["requests"], figures["contexts"], figures["essays"]) == (300, 20, 10)
    assert figures["batch_max"] == 50
    results = {result["system"]: result for result in figures["results"]}
    assert list(results) == list(NAMES)
    for result in results.values():
        (run,) = result["runs"]
        assert run["checked"] == 450
        assert result["per_second"] == run["per_second"]
        assert result["rss_mb"] > 10
        assert not result["default_shape"]
    for name in [
        name for name in NAMES if name not in STREAMS
    ]:  # the peer in Java appends all at once
        assert results[name]["per_second"] > 0
    assert results["copy"]["of_copy"] == 1


@pytest.mark.thorough
def test_latencies_are_measured_beside_peers(tmp_path: Path) -> None:
    options = ("--rate", "20", "--seconds", "2", "--contexts", "5", "--rounds", "1")
    figures = measure(tmp_path, "latency", *options)
    assert [result["system"] for result in figures["results"]] == list(NAMES)
    for result in figures["results"]:
        assert result["requests"] == 40
        latencies = [result[name] for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms")]
        assert latencies == sorted(latencies)
        assert latencies[-1] > 0


@pytest.mark.thorough
def test_the_fold_is_measured_alone_and_beside_the_join(tmp_path: Path) -> None:
    sizes = ("--uploads", "200", "--contexts", "10", "--requests", "120")
    figures = measure(tmp_path, "fold", *sizes, "--rounds", "1", CJSTREAM_BATCH_MAX="20")
    assert (figures["uploads"], figures["contexts"]) == (200, 10)
    (result,) = figures["results"]
    assert (result["uploads"], len(result["runs"])) == (200, 1)
    assert 0 < result["rows"] <= 200
    assert result["per_second"] > 0
    for name in ("join_without_uploads", "join_beside_fold"):
        assert [run["checked"] for run in figures[name]["runs"]] == [180]
    assert figures["join_ratio"] > 0
    assert len(figures["uploads_left_after_join"]) == 1


@pytest.mark.thorough
def test_growth_is_measured_at_each_point(tmp_path: Path) -> None:
    sizes = ("--requests", "60", "--max-contexts", "20", "--rounds", "1")
    figures = measure(tmp_path, "growth", *sizes, CJSTREAM_BATCH_MAX="20")
    found = [
        (result["system"], result["zipf"], result["essays"], result["workers"])
        for result in figures["results"]
    ]
    points = [(0.0, 2, 1), (0.0, 10, 1), (1.0, 10, 1), (0.0, 100, 1), (0.0, 10, 2)]
    assert found == [(system, *point) for point in points for system in ("cjstream", "copy")]
    assert {result["contexts"] for result in figures["results"]} == {20}
    for result in figures["results"]:
        assert result["runs"][0]["checked"] == sum(
            result[part] for part in ("warm_up", "requests", "cool_down")
        )


@pytest.mark.thorough
def test_judging_is_measured_alone_and_together(tmp_path: Path) -> None:
    options = ("--essays", "6", "--runs", "2", "--rounds", "1")
    figures = measure(tmp_path, "judging", *options)
    for kind, runs in (("one_run", 1), ("runs_at_once", 2)):
        measured = figures[kind]
        assert measured["runs"] == runs
        assert measured["answers"] >= runs * 6 * 4 / 2  # at least four waves of three
        assert 0 < measured["cpu_ms_per_answer"] < 1000
    assert figures["engine_cpu_by_essays"].keys() == {"42", "100", "300", "1000"}
