"""What the commands of `cjstream run` print and log."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer

from schemas.errors import CJStreamError
from tools.admin.failures import Usage
from tools.printing import print_fields, print_json, print_table
from tools.runner.estimate import estimate_document
from tools.runner.execution import FinishedRun
from tools.runner.planning import PlannedRun
from tools.runner.preflight import PreflightCheck
from tools.runner.progress_log import ProgressLog
from tools.runner.run_end import COMPLETE, FAILED
from tools.runner.run_folder import ARTEFACT, REPORT
from tools.runner.runner_log import LEVELS, RunLog

Document = dict[str, Any]


@contextmanager
def reported(
    mode: str, label: str, metrics_file: Path | None, log_level: str
) -> Iterator[ProgressLog]:
    """Log that a command began and how it stopped, whatever happens in the block."""
    if log_level not in LEVELS:
        raise Usage(f"--log-level: one of {', '.join(LEVELS)}")
    log = RunLog()
    log.start(log_level)
    log.know(label=label)
    progress = ProgressLog(log, label, metrics_file)
    log.write("runner_invocation", mode=mode)
    try:
        yield progress
    except CJStreamError as fault:
        _stopped(progress, mode, fault.exit_code, type(fault).__name__)
        raise
    except BaseException as fault:
        _stopped(progress, mode, FAILED, type(fault).__name__)
        raise


def _stopped(progress: ProgressLog, mode: str, exit_code: int, fault: str) -> None:
    progress.state(mode, None)
    progress.log.write("runner_stopped", exit_code=exit_code, fault=fault)
    with suppress(OSError):  # what failed is more important
        progress.write_metrics(cj_run_exit_code=exit_code)


def log_inventory(progress: ProgressLog, plan: PlannedRun) -> None:
    """One line about the inputs, and how many entries the manifest has."""
    document = plan.manifest.document
    kinds = [text.kind for text in plan.inventory.texts]
    progress.log.know(batch_id=document["batch_id"])
    progress.manifest_entries = len(kinds)
    progress.log.write(
        "runner_inventory",
        manifest_id=plan.manifest.id,
        texts={kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        skipped=len(plan.inventory.skipped),
        notes=len(plan.inventory.notes),
        estimate_usd=document["estimate"]["cost_usd"],
        estimate_max_usd=document["estimate"]["cost_max_usd"],
    )


def log_finished(progress: ProgressLog, mode: str, finished: FinishedRun) -> None:
    """The last lines of a run that has an artefact."""
    end, texts = finished.end, finished.artefact["inputs"]["texts"]
    progress.manifest_entries = len(texts)
    progress.log.know(run_id=finished.artefact["metadata"]["run_id"])
    progress.state(mode, finished.artefact)
    progress.log.write(
        "runner_stopped", exit_code=end.exit_code, outcome=end.outcome, reason=end.reason
    )
    progress.write_metrics(cj_run_exit_code=end.exit_code)


def print_plan(plan: PlannedRun, *, as_json: bool) -> None:
    """Print a plan."""
    document = plan_document(plan)
    if as_json:
        print_json(document)
        return
    names = ("kind", "id", "file_name", "size_bytes", "grade")
    rows = [tuple(one[name] or "" for name in names) for one in document["inputs"]]
    print_table("Inputs", ("kind", "id", "file", "bytes", "grade"), rows)
    for title, member in (("Skipped", "skipped"), ("Notes", "notes")):
        if document[member]:
            print_table(title, ("file", "why"), [tuple(one.values()) for one in document[member]])
    estimate = document["estimate"]
    hidden = ("classes", "tokens_per_call")
    shown = {name: value for name, value in estimate.items() if name not in hidden}
    print_fields("Estimate", shown, as_json=False)


def plan_document(plan: PlannedRun) -> Document:
    """A plan as JSON."""
    manifest = plan.manifest.document
    return {
        "label": manifest["label"],
        "assignment_id": manifest["assignment_id"],
        "grade_scale": manifest["grade_scale"],
        "judge": plan.model.name,
        "overrides": {
            name: value
            for name, value in manifest["overrides"].items()
            if name != "system_prompt_override"  # its text is among the inputs
        },
        "git_sha": manifest["git_sha"],
        "git_dirty": manifest["git_dirty"],
        "inputs": manifest["inputs"],
        "skipped": [
            {"file_name": one.file_name, "reason": one.reason} for one in plan.inventory.skipped
        ],
        "notes": [{"file_name": "", "reason": note} for note in plan.inventory.notes],
        "estimate": estimate_document(plan.estimate),
    }


def print_finished(finished: FinishedRun, *, as_json: bool) -> None:
    """Print the summary of a run, and end with its exit code."""
    document = _finished_document(finished)
    if as_json:
        print_json(document)
    else:
        costs = document.pop("costs")
        print_fields(f"Run {document['batch_id']}", document, as_json=False)
        rows = [tuple("" if cell is None else cell for cell in one.values()) for one in costs]
        if costs:
            print_table("Costs", tuple(costs[0]), rows)
    if finished.end.exit_code != COMPLETE:
        raise typer.Exit(finished.end.exit_code)


def _finished_document(finished: FinishedRun) -> Document:
    metadata, end = finished.artefact["metadata"], finished.end
    return {
        "exit_code": end.exit_code,
        "outcome": end.outcome,
        "reason": end.reason,
        "label": metadata["label"],
        "batch_id": metadata["batch_id"],
        "run_id": metadata["run_id"],
        "artefact": str(finished.folder / ARTEFACT),
        "report": str(finished.folder / REPORT),
        "artefact_checksum": finished.artefact["validation"]["artefact_checksum"],
        "prompts": finished.artefact["judging"]["prompts"],
        "spent_usd": finished.artefact["costs"]["spent_usd"],
        "costs": finished.artefact["costs"]["rows"],
    }


def print_checks(checks: list[PreflightCheck], *, as_json: bool) -> None:
    """Print the checks of a preflight."""
    documents = [
        {
            "name": check.name,
            "ok": check.ok,
            "detail": check.detail,
            "remedy": None if check.ok else check.remedy,
        }
        for check in checks
    ]
    if as_json:
        print_json({"ok": all(check.ok for check in checks), "checks": documents})
        return
    rows = [
        ("ok" if check.ok else "NOT OK", check.name, check.detail, "" if check.ok else check.remedy)
        for check in checks
    ]
    print_table("Preflight", ("", "what", "seen", "what to do"), rows)
