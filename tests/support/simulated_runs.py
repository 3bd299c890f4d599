"""Simulated research runs of generated texts, for the artefact, the report and the estimate."""

import hashlib
import math
import random
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from processors.judging.judges.simulated import NO_FAULTS, SimulatedFaults, SimulatedMind
from schemas.canonical_json import canonical_json, canonical_sha256
from schemas.events import CJAssessmentRequested, Essay
from schemas.scales import get_scale
from tools.runner.collected_run import CollectedRun
from tools.runner.simulated_run import Simulation, simulated_run

STARTED_AT_MS = 1_790_000_000_000
SCALE = "swedish_8_anchor"
GRADES = ("E", "D", "C", "B", "A", "C+", "D+", "F")
WORDS = ("school", "homework", "because", "pupils", "should", "evening", "learn", "often", "think")
MARKER = "zyzzyva"  # in every essay, and nowhere else


def essay_of(number: int, seed: int, *, kind: str = "student") -> str:
    """A text of 400 to 6,000 characters."""
    chosen = random.Random(f"{seed}|{kind}|{number}")
    words = chosen.choices(WORDS, k=round(chosen.lognormvariate(5.4, 0.35)))
    return f"{MARKER} {kind} {number} {seed}: {' '.join(words)}"


def texts_of(essays: int, anchors: int, seed: int) -> list[tuple[dict[str, Any], str]]:
    """Each input of a manifest, with its text."""
    inputs = [
        _input("instructions", "instructions", "Judge the argument and the language."),
        _input("prompt", "prompt", "Should homework be banned? Argue for your view."),
    ]
    inputs += [
        _input("anchor", f"anchor-{n:02}", essay_of(n, seed, kind="anchor"), GRADES[n % 8])
        for n in range(anchors)
    ]
    inputs += [_input("student", f"pupil-{n:03}", essay_of(n, seed)) for n in range(essays)]
    return inputs


def _input(kind: str, name: str, text: str, grade: str | None = None) -> tuple[dict[str, Any], str]:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    described = {
        "kind": kind,
        "id": name,
        "file_name": f"{name}.txt",
        "file_sha256": sha256,
        "size_bytes": len(text.encode()),
        "storage_id": sha256,
        "recipe": 1,
        "grade": grade,
    }
    return described, text


def manifest_of(
    inputs: list[dict[str, Any]], estimate: Mapping[str, Any], **changes: Any
) -> dict[str, Any]:
    """The manifest of a dry run."""
    return {
        "label": "homework, autumn",
        "mode": "dry-run",
        "versions": {"cjstream": "0.1.0", "python": "3.11.9"},
        "git_sha": "UNKNOWN",
        "git_dirty": None,
        "platform": "Linux x86_64",
        "packages": {"numpy": "2.4.0"},
        "assignment_id": "homework",
        "grade_scale": SCALE,
        "overrides": {},
        "estimate": dict(estimate),
        "timeout_seconds": 1800,
        "inputs": inputs,
        **changes,
    }


NO_ESTIMATE: dict[str, Any] = {
    "provider": "simulated",
    "model": "sim-1",
    "price_id": None,
    "items": 0,
    "comparisons": 0,
    "comparisons_max": 0,
    "tokens_per_call": dict.fromkeys(
        ("input", "cache_write", "cache_read", "output", "reasoning"), 0
    ),
    "classes": [],
    "cost_usd": None,
    "cost_max_usd": None,
}


def run_of(
    essays: int = 8,
    anchors: int = 3,
    seed: int = 1,
    *,
    overrides: Mapping[str, Any] | None = None,
    estimate: Mapping[str, Any] = NO_ESTIMATE,
    faults: SimulatedFaults = NO_FAULTS,
    **changes: Any,
) -> CollectedRun:
    """A whole simulated run."""
    inputs = texts_of(essays, anchors, seed)
    described = [one for one, _ in inputs]
    manifest = manifest_of(described, estimate, overrides=dict(overrides or {}), **changes)
    request = CJAssessmentRequested(
        event_id=f"request-{seed}",
        occurred_at_ms=STARTED_AT_MS,
        source_service="cjstream-run",
        correlation_id=f"correlation-{seed}",
        batch_id=f"batch-{seed}",
        assignment_id="homework",
        course_code="EN5",
        language="en",
        llm_config_overrides=canonical_json(dict(overrides)).decode() if overrides else None,
        essays=tuple(
            Essay(essay_id=one["id"], text_storage_id=one["storage_id"])
            for one in described
            if one["kind"] == "student"
        ),
    )
    texts = {one["storage_id"]: text for one, text in inputs}
    simulation = Simulation(SimulatedMind(seed=seed), faults)
    manifest_id = canonical_sha256(manifest)
    return simulated_run(manifest_id, manifest, request, texts, STARTED_AT_MS, simulation)


def with_grades(artefact: dict[str, Any]) -> dict[str, Any]:
    """The artefact with a grade distribution for each essay that has a score, whatever its anchors say."""
    thresholds = [-2.2, -1.5, -0.8, -0.2, 0.4, 1.0, 1.7]
    grades = get_scale(SCALE).grades
    projections, scores = artefact["grade_projections"], artefact["bt_summary"]["essays"]
    projections["thresholds"] = thresholds
    for essay, score in zip(projections["essays"], scores, strict=True):
        sd = math.hypot(score["se"], 0.4)
        below = [0.0, *(_normal((t - score["theta"]) / sd) for t in thresholds), 1.0]
        shares = [round(high - low, 6) for low, high in pairwise(below)]
        best = max(range(len(grades)), key=shares.__getitem__)
        essay["distribution"] = [
            {"grade": grade, "p": p} for grade, p in zip(grades, shares, strict=True)
        ]
        essay["grade"], essay["grade_probability"] = grades[best], shares[best]
        essay["set_90"] = [grades[best]]
    return artefact


def _normal(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))
