"""A research run that is killed at every point and resumed: one request, one result, each text sent once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from processors.settings import Settings
from tests.faults.killed_runner import KINDS, MODULE, POINTS, VARIABLE
from tests.faults.reading import read_all
from tests.support.judged_batches import results_of
from tests.support.research_inputs import research_inputs, write_files
from tests.support.research_installation import (
    ResearchInstallation,
    research_installation,
    sharpened,
)

PUPILS = 8
UNDISTURBED = "undisturbed"
SHORT = {"judging": {"seed": 1, "target_bound": 0.3}}  # a few waves


def root_of(folder: Path, point: str) -> Path:
    """The folder of a point's inputs."""
    return folder / point.replace(" ", "-")


def inputs_of(folder: Path, point: str) -> dict[str, float]:
    """Write inputs of their own for a point; returns the quality of each text."""
    files, thetas = research_inputs(0, PUPILS, closing=f"({point})")
    write_files(root_of(folder, point), files)
    return thetas


def comparable(artefact: dict[str, Any]) -> dict[str, Any]:
    """What an artefact says without coordinates, times, and what depends on the texts' last line."""
    compared = [
        [one[name] for name in ("number", "first_id", "second_id", "winner_id")]
        for one in artefact["llm_comparisons"]
    ]
    metadata = artefact["metadata"]
    return {
        "compared": compared,
        "essays": [
            [one[name] for name in ("essay_id", "rank", "theta", "se")]
            for one in artefact["bt_summary"]["essays"]
        ],
        "outcome": [metadata["outcome"], metadata["reason"], metadata["seed"]],
        "spent": artefact["ledger"]["in_doubt_usd"],
        "status": artefact["validation"]["runner_status"],
        "inputs": [[one["kind"], one["id"]] for one in artefact["inputs"]["texts"]],
    }


def sent_texts(installation: ResearchInstallation) -> list[int]:
    """The status of each text that the API was sent: 201 for a new one, 200 for one that it had."""
    lines = [json.loads(line) for line in installation.api.log.read_text().splitlines()]
    return [
        line["status"]
        for line in lines
        if line["event"] == "HTTP request"
        and (line["method"], line["route"]) == ("POST", "/v1/content")
    ]


def run_killed_at(installation: ResearchInstallation, folder: Path, point: str) -> dict[str, Any]:
    """Execute a run, killed at this point, and resume it; its artefact."""
    overrides, run = folder / "overrides.json", folder / f"run {point}"
    overrides.write_text(json.dumps(SHORT))
    sent_before = len(sent_texts(installation))
    given = (root_of(folder, point), run, "--label", "killed", "--overrides", str(overrides))
    if point == UNDISTURBED:
        done = installation.execute(*given)
        assert done.exit_code == 0, done.stderr
    else:
        killed = installation.execute_in_process(MODULE, {VARIABLE: point}, *given)
        assert killed.exit_code == -9, killed.stderr
        resumed = installation.run("resume", str(run))
        assert resumed.exit_code == 0, resumed.stderr
    statuses = sent_texts(installation)[sent_before:]
    texts = PUPILS + 3
    assert statuses.count(201) <= texts + 2  # the manifest, and preflight's text
    assert statuses.count(200) <= 2, (point, statuses)  # those two again
    artefact: dict[str, Any] = json.loads((run / "artefact.json").read_bytes())
    assert (run / "report.html").exists()
    return artefact


@pytest.mark.thorough
@pytest.mark.timeout(900)  # half a minute, but a long part has three times as many points
@pytest.mark.parametrize(
    "points",
    [
        pytest.param(KINDS, id="one point of each kind"),
        *(
            pytest.param(POINTS[part::3], id=f"part {part}", marks=pytest.mark.long)
            for part in range(3)
        ),
    ],
)
def test_a_run_that_is_killed_anywhere_is_resumed_to_the_artefact_of_an_undisturbed_one(
    settings: Settings, tmp_path: Path, points: Sequence[str]
) -> None:
    thetas: dict[str, float] = {}
    for point in (UNDISTURBED, *points):
        thetas |= inputs_of(tmp_path, point)
    with research_installation(settings, sharpened(thetas)) as installation:
        found = {
            point: run_killed_at(installation, tmp_path, point) for point in (UNDISTURBED, *points)
        }
    expected = comparable(found[UNDISTURBED])
    assert expected["outcome"][0] == "complete"
    for point, artefact in found.items():
        assert comparable(artefact) == expected, point
    requests = read_all(
        settings.bootstrap_servers, settings.topics.requests.name, settings.partitions
    )
    batches = sorted(artefact["metadata"]["batch_id"] for artefact in found.values())
    assert sorted((one.key or b"").decode() for one in requests) == batches
    assert sorted(one.batch_id for one in results_of(settings)) == batches
