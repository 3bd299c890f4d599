"""`cjstream run` on a real broker: from texts to an artefact with grades, and the exit code of every end of a run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.settings import Settings
from schemas.scales import get_scale
from tests.faults.reading import read_all
from tests.support.installations import installation
from tests.support.judged_batches import results_of
from tests.support.research_inputs import (
    ANCHORS,
    PUPILS,
    ROLES,
    SCALE,
    research_inputs,
    write_files,
)
from tests.support.research_installation import (
    Ran,
    ResearchInstallation,
    research_installation,
    sharpened,
)
from tools.broker import Broker
from tools.runner.artefact_file import read_artefact

BUDGET_USD = 0.003  # of about five waves
FEW = 12  # pupils
COINS = 16  # pupils whose texts are all alike to the judge
SLOW = {"latency_s": 0.2, "persistence": 1}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three root folders: graded, few, coins."""
    folder = tmp_path_factory.mktemp("inputs")
    write_files(folder / "graded", research_inputs()[0])
    write_files(folder / "few", research_inputs(0, FEW)[0])
    write_files(folder / "coins", research_inputs(0, COINS, closing="(coin)")[0])
    return folder


@pytest.fixture(scope="module")
def research(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ResearchInstallation]:
    """One installation for every run of this module."""
    settings = installation(broker, tmp_path_factory.mktemp("research"), patience_s=0)
    thetas = sharpened(research_inputs()[1] | research_inputs(0, FEW)[1])
    alike = dict.fromkeys(research_inputs(0, COINS, closing="(coin)")[1], 0.0)
    with research_installation(settings, thetas | alike, **SLOW) as running:
        yield running


def requests_in(settings: Settings, batch_id: str) -> list[dict[str, bytes | None]]:
    """The headers of every request with this batch id."""
    topic = settings.topics.requests.name
    records = read_all(settings.bootstrap_servers, topic, settings.partitions)
    return [dict(one.headers) for one in records if one.key == batch_id.encode()]


@pytest.mark.thorough
def test_a_run_with_anchors_is_graded_and_reported_again_elsewhere_with_the_same_bytes(
    research: ResearchInstallation, inputs: Path, tmp_path: Path
) -> None:
    root, folder, metrics = inputs / "graded", tmp_path / "run", tmp_path / "run.prom"
    given = ("--label", "first", "--metrics-file", str(metrics))
    done = research.execute(root, folder, *given)
    assert done.exit_code == 0, done.stderr
    batch_id = done.document["batch_id"]
    (result,) = (one for one in results_of(research.settings) if one.batch_id == batch_id)
    assert (done.document["outcome"], done.document["run_id"]) == ("complete", result.run_id)
    artefact = json.loads((folder / "artefact.json").read_bytes())
    assert artefact["metadata"]["label"] == "first"
    assert artefact["metadata"]["grade_scale"] == SCALE
    assert artefact["validation"]["artefact_checksum"] == done.document["artefact_checksum"]
    grades = artefact["grade_projections"]
    assert (grades["status"], len(grades["anchors"]), len(grades["essays"])) == (
        "graded",
        ANCHORS,
        PUPILS,
    )
    for essay in grades["essays"]:
        assert sum(round(10**6 * one["p"]) for one in essay["distribution"]) == 10**6
    by_rank = sorted(artefact["bt_summary"]["essays"], key=lambda one: one["rank"])
    grade_of = {one["essay_id"]: one["grade"] for one in grades["essays"]}
    best, worst = (
        get_scale(SCALE).grades.index(grade_of[by_rank[rank]["essay_id"]]) for rank in (0, -1)
    )
    assert best > worst
    report = (folder / "report.html").read_text()
    assert all(essay_id in report for essay_id in grade_of)

    (state,) = done.lines_of("runner_validation_state")
    entries = len(ROLES) + ANCHORS + PUPILS
    assert [state[name] for name in ("mode", "schema_valid", "manifest_entries")] == [
        "execute",
        True,
        entries,
    ]
    assert state["runner_status"]["partial_data"] is False
    for phrase in ("invocation", "inventory", "uploaded", "published", "progress", "stopped"):
        assert done.lines_of(f"runner_{phrase}"), phrase
    assert (folder / "log.jsonl").read_text().count("runner_progress") >= 3
    first_wave, *others = (line for line in done.lines_of("runner_progress") if "wave" in line)
    assert float(first_wave["revised_cost_usd"]) > 0
    assert not any("revised_cost_usd" in line for line in others)
    assert 'cj_run_exit_code{label="first"} 0' in metrics.read_text()
    for line in done.lines_of("runner_progress")[1:]:
        assert (line["run_id"], line["batch_id"]) == (result.run_id, batch_id)

    elsewhere = tmp_path / "elsewhere"
    again = research.run("report", batch_id, "--folder", str(elsewhere))
    assert again.exit_code == 0, again.stderr
    for name in ("artefact.json", "report.html", "manifest.json"):
        assert (elsewhere / name).read_bytes() == (folder / name).read_bytes(), name
    resumed = research.run("resume", str(folder))
    assert resumed.exit_code == 0
    assert resumed.document["artefact_checksum"] == done.document["artefact_checksum"]
    (headers,) = requests_in(research.settings, batch_id)
    manifest_id = artefact["validation"]["manifest"]["storage_id"]
    assert headers["cjstream-run-manifest"] == manifest_id.encode()
    texts = [file.read_text().strip() for file in root.rglob("*.txt")]
    written = done.stderr + (folder / "log.jsonl").read_text() + report
    assert not any(text in written for text in texts)


def artefact_of(done: Ran, folder: Path) -> dict[str, object]:
    """The artefact of a run, which is valid, and whose report is there."""
    artefact = read_artefact(folder / "artefact.json")
    assert (folder / "report.html").exists()
    assert done.document["artefact_checksum"] == artefact["validation"]["artefact_checksum"]
    return artefact


@pytest.mark.thorough
def test_a_run_whose_time_is_up_leaves_an_artefact_that_resume_completes(
    research: ResearchInstallation, inputs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "partial"
    done = research.execute(inputs / "few", folder, "--label", "few", "--timeout", "1")
    assert (done.exit_code, done.document["reason"]) == (5, "timeout"), done.stderr
    artefact = read_artefact(folder / "artefact.json")
    assert artefact["validation"]["runner_status"]["partial_data"] is True
    for _ in range(60):
        resumed = research.run("resume", str(folder))
        if resumed.exit_code != 5:
            break
    assert resumed.exit_code == 0, resumed.stderr
    artefact_of(resumed, folder)


@pytest.mark.thorough
def test_a_run_whose_budget_is_used_up_ends_with_6_and_spends_no_more(
    research: ResearchInstallation, inputs: Path, tmp_path: Path
) -> None:
    limit = ("--max-cost", str(BUDGET_USD))
    done = research.execute(inputs / "few", tmp_path / "budget", "--label", "few", *limit)
    assert (done.exit_code, done.document["reason"]) == (6, "budget"), done.stderr
    artefact_of(done, tmp_path / "budget")
    assert 0 < float(done.document["spent_usd"]) <= BUDGET_USD


@pytest.mark.thorough
def test_a_run_without_a_signal_ends_with_7(
    research: ResearchInstallation, inputs: Path, tmp_path: Path
) -> None:
    overrides = tmp_path / "overrides.json"
    overrides.write_text('{"judging": {"seed": 1}}')
    given = ("--label", "coin", "--overrides", str(overrides))
    done = research.execute(inputs / "coins", tmp_path / "coin", *given)
    assert (done.exit_code, done.document["reason"]) == (7, "no_signal"), done.stderr
    artefact_of(done, tmp_path / "coin")


@pytest.mark.thorough
def test_a_run_that_cannot_begin_sends_nothing_and_without_kafka_it_is_played_here(
    research: ResearchInstallation, inputs: Path, tmp_path: Path
) -> None:
    results = len(results_of(research.settings))
    stranger = research.execute(inputs / "few", tmp_path / "one", CJ_ADMIN_TOKEN="nobody")
    assert (stranger.exit_code, "role: " in stranger.stderr) == (1, True), stranger.stderr
    (state,) = stranger.lines_of("runner_validation_state")
    assert (state["mode"], state["schema_valid"]) == ("execute", None)
    assert not (tmp_path / "one").exists()

    no_kafka = research.execute(inputs / "few", tmp_path / "no-kafka", "--no-kafka")
    assert no_kafka.exit_code == 0, no_kafka.stderr
    artefact_of(no_kafka, tmp_path / "no-kafka")
    assert no_kafka.lines_of("runner_validation_state")[0]["mode"] == "no-kafka"
    assert SCALE in (tmp_path / "no-kafka" / "manifest.json").read_text()
    assert len(results_of(research.settings)) == results
