"""The artefact of a run: one JSON document, a pure function of its manifest and of its records in the log.

The same records make the same bytes, in whatever order they are read and however often. Money is in US dollars as
exact decimal texts; times are RFC 3339. Its JSON Schema is `assessment_run.schema.json`.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from schemas.canonical_json import canonical_json, canonical_sha256
from schemas.errors import Discrepancy
from tools.audit_json import instant
from tools.runner.artefact_judging import (
    comparison_documents,
    cost_document,
    grade_document,
    judging_document,
    ledger_document,
    score_document,
)
from tools.runner.collected_run import CollectedRun
from tools.runner.judged_run import JudgedRun, judged_run

SCHEMA_VERSION = "2.0"
TEXTS = ("system_prompt_override", "judge_rubric_override")
CHECKSUM = "artefact_checksum"
Document = dict[str, Any]
OF_MANIFEST = (
    "label",
    "mode",
    "assignment_id",
    "grade_scale",
    "versions",
    "git_sha",
    "git_dirty",
    "platform",
    "packages",
)


def artefact_of(collected: CollectedRun) -> Document:
    """The artefact, with its checksum. Raises Discrepancy if the records contradict each other or the manifest."""
    judged = judged_run(collected)
    validation = _validation(collected)
    document = {
        "schema_version": SCHEMA_VERSION,
        "metadata": _metadata(collected, judged),
        "inputs": _inputs(collected.manifest),
        "llm_comparisons": comparison_documents(judged),
        "bt_summary": score_document(judged),
        "grade_projections": grade_document(judged),
        "costs": cost_document(judged),
        "ledger": ledger_document(judged),
        "judging": judging_document(judged),
        "validation": validation,
    }
    validation[CHECKSUM] = canonical_sha256(document)
    return document


def artefact_bytes(document: Mapping[str, Any]) -> bytes:
    """The bytes of an artefact's file: its RFC 8785 form."""
    return canonical_json(document)


def checksum_of(document: Mapping[str, Any]) -> str:
    """The sha256 of the RFC 8785 bytes of an artefact without its checksum, in hex."""
    validation = {name: value for name, value in document["validation"].items() if name != CHECKSUM}
    return canonical_sha256({**document, "validation": validation})


def _metadata(collected: CollectedRun, judged: JudgedRun) -> Document:
    manifest, request, result = collected.manifest, collected.request.event, collected.result
    run = judged.run
    try:
        of_manifest = {name: manifest[name] for name in OF_MANIFEST}
    except KeyError as fault:
        raise Discrepancy(f"manifest {collected.manifest_id}: no member {fault}") from fault
    return {
        **of_manifest,
        "run_id": collected.batch.event.event_id if collected.batch else None,
        "batch_id": request.batch_id,
        "request_event_id": request.event_id,
        "correlation_id": request.correlation_id,
        "outcome": result.event.outcome if result else None,
        "reason": result.event.reason if result else None,
        "engine": run.opened.engine if run else None,
        "seed": run.opened.seed if run else None,
        "requested_at": instant(collected.request.appended_at_ms),
        "generated_at": instant(collected.generated_at_ms),
    }


def _inputs(manifest: Mapping[str, Any]) -> Document:
    return {
        "texts": list(manifest["inputs"]),
        "overrides": _without_texts(manifest["overrides"]),
        "estimate": manifest["estimate"],
    }


def _without_texts(overrides: Mapping[str, Any]) -> Document:
    """Overrides with the sha256 of each text in place of the text."""
    return {
        name: sha256(value.encode()).hexdigest() if name in TEXTS and value else value
        for name, value in overrides.items()
    }


def _validation(collected: CollectedRun) -> Document:
    return {
        "manifest": {
            "storage_id": collected.manifest_id,
            "entries": len(collected.manifest["inputs"]),
        },
        "offsets": [
            {
                "topic": one.topic,
                "partition": one.partition,
                "from": one.start,
                "to": one.end,
            }
            for one in collected.offsets
        ],
        "runner_status": {
            "partial_data": collected.is_partial,
            "timeout_seconds": collected.manifest["timeout_seconds"],
            "observed_events": len(collected.records),
        },
    }
