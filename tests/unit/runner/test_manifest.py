"""The manifest of a run: what it says, and what its id decides."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from schemas.canonical_json import canonical_json
from tools.runner.input_text import InputText
from tools.runner.inventory import Inventory
from tools.runner.manifest import (
    Environment,
    RunOptions,
    build_manifest,
    correlation_id_of,
    manifest_from,
    request_of,
)
from tools.runner.metrics_file import write_metrics
from tools.runner.source_revision import UNKNOWN, SourceRevision, source_revision

SHA = "a" * 40
OPTIONS = RunOptions(
    label="first",
    batch_id="first-1",
    assignment_id="a1",
    grade_scale="swedish_8_anchor",
    course_code="research",
    language="en",
    overrides={"judging": {"seed": 1}},
    timeout_s=60,
)
ENVIRONMENT = Environment(
    version="0.1.0",
    revision=SourceRevision(UNKNOWN, None),
    platform="a platform",
    python="3.13",
    packages={"numpy": "2.4"},
    planned_at_ms=1_700_000_000_000,
)


def text(kind: str, name: str, grade: str | None = None) -> InputText:
    return InputText(
        kind=kind,
        id=name,
        file_name=f"{name}.txt",
        file_sha256=SHA,
        text=f"The text {name}.".encode(),
        grade=grade,
    )


INVENTORY = Inventory((text("prompt", "prompt"), text("anchor", "b", "A"), text("student", "c")))
MANIFEST = build_manifest(OPTIONS, INVENTORY, ENVIRONMENT, {"cost_usd": "0.1"})


def test_a_manifest_is_canonical_and_can_be_read_again() -> None:
    assert MANIFEST.content == canonical_json(MANIFEST.document)
    assert manifest_from(MANIFEST.content) == MANIFEST
    assert [one["kind"] for one in MANIFEST.document["inputs"]] == ["prompt", "anchor", "student"]
    assert b"The text" not in MANIFEST.content


def test_the_request_has_the_students_and_ids_that_the_manifest_decides() -> None:
    request = request_of(MANIFEST)
    assert [(one.essay_id, one.text_storage_id) for one in request.essays] == [
        ("c", INVENTORY.texts[2].storage_id)
    ]
    assert request.llm_config_overrides == '{"judging":{"seed":1}}'
    assert request == request_of(manifest_from(MANIFEST.content))
    assert request.correlation_id == correlation_id_of(MANIFEST) != request.event_id
    other = build_manifest(replace(OPTIONS, batch_id="first-2"), INVENTORY, ENVIRONMENT, {})
    assert other.event_id != MANIFEST.event_id


def test_a_request_without_overrides_has_none() -> None:
    plain = build_manifest(replace(OPTIONS, overrides={}), INVENTORY, ENVIRONMENT, {})
    assert request_of(plain).llm_config_overrides is None


def test_the_revision_is_that_of_the_environment_or_of_git_or_unknown(tmp_path: Path) -> None:
    given = {"CJSTREAM_GIT_SHA": SHA}
    assert source_revision(given, tmp_path) == SourceRevision(SHA, None)
    for unusable in ({}, {"CJSTREAM_GIT_SHA": "not a sha"}):
        assert source_revision(unusable, tmp_path) == SourceRevision(UNKNOWN, None)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
    (tmp_path / "file").write_text("1")
    for command in (("init", "-q"), ("add", "file"), ("commit", "-qm", "one")):
        subprocess.run([*git, *command], cwd=tmp_path, check=True, env=os.environ)
    clean = source_revision({}, tmp_path)
    assert (len(clean.sha), clean.is_dirty) == (40, False)
    (tmp_path / "file").write_text("2")
    assert source_revision({}, tmp_path) == SourceRevision(clean.sha, True)


def test_without_git_the_revision_is_unknown(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()  # a checkout, but nothing can read it
    assert source_revision({}, tmp_path) == SourceRevision(UNKNOWN, None)


def test_metrics_are_in_prometheus_text_format(tmp_path: Path) -> None:
    file = tmp_path / "run.prom"
    write_metrics(file, 'a "label"', {"cj_run_waves": 3, "cj_run_bound": 0.5})
    assert file.read_text().splitlines() == [
        "# HELP cj_run_waves Waves of comparisons that were planned",
        "# TYPE cj_run_waves gauge",
        'cj_run_waves{label="a \\"label\\""} 3',
        "# HELP cj_run_bound Lower bound of the reliability, the 5 % quantile of r squared",
        "# TYPE cj_run_bound gauge",
        'cj_run_bound{label="a \\"label\\""} 0.5',
    ]
