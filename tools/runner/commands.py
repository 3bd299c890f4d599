"""What the commands of `cjstream run` do; the command line only reads arguments and prints."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from processors.judging.judges.known_judges import simulation_of
from processors.settings import Settings
from schemas.errors import Discrepancy, Malformed
from tools.runner.execution import (
    FinishedRun,
    follow_run,
    manifest_in_store,
    read_again,
    write_products,
)
from tools.runner.follow import Patience
from tools.runner.inventory import InputPaths, Inventory, take_inventory
from tools.runner.manifest import (
    Manifest,
    RunOptions,
    correlation_id_of,
    manifest_from,
    request_of,
)
from tools.runner.planning import PlannedRun, plan_run
from tools.runner.preflight import (
    Plan,
    PreflightCheck,
    api_checks,
    checked,
    kafka_checks,
    key_check,
    local_checks,
    refuse_failed,
)
from tools.runner.probe import probe_judge
from tools.runner.progress_log import ProgressLog
from tools.runner.publish import manifest_id_of, request_of_batch, request_of_run
from tools.runner.run_arguments import INPUT_NAMES, RunArguments
from tools.runner.run_end import COMPLETE, RunEnd
from tools.runner.run_environment import run_environment
from tools.runner.run_folder import MANIFEST, STATE, RunFolder, new_folder
from tools.runner.run_options import OverrideOptions, overrides_in
from tools.runner.simulated_run import Simulation, simulated_run
from tools.runner.steps import Services, Steps

PLANNED = "planned"
EXECUTE, DRY_RUN, NO_KAFKA = "execute", "dry-run", "no-kafka"
RUNS = "runs"  # in the data folder


def planned(arguments: RunArguments, settings: Settings, mode: str) -> PlannedRun:
    """The plan of a run. Raises CJStreamError; every fault of the inputs, and every one of the overrides, at once."""
    inventory = take_inventory(arguments.paths, arguments.scale)
    system, file = inventory.one("system"), arguments.overrides
    overrides = OverrideOptions(
        given={} if file is None else overrides_in(file.read_bytes(), str(file)),
        judge=arguments.judge,
        system=system.text.decode() if system else None,
        max_cost_usd=arguments.max_cost,
        max_comparisons=arguments.max_comparisons,
    )
    options = RunOptions(
        label=arguments.label,
        batch_id=f"{arguments.label}-{uuid4().hex[:8]}",
        assignment_id=arguments.assignment_id,
        grade_scale=arguments.scale,
        course_code=arguments.course_code,
        language=arguments.language,
        overrides=overrides.document(),
        timeout_s=arguments.timeout,
        mode=mode,
    )
    return plan_run(options, inventory, run_environment(round(time.time() * 1000)), settings)


def folder_of(arguments: RunArguments, plan: PlannedRun, settings: Settings) -> Path:
    """The folder of a run."""
    batch_id: str = plan.manifest.document["batch_id"]
    return arguments.folder or settings.data_dir / RUNS / batch_id


def preflight(plan: PlannedRun, folder: Path, services: Services) -> list[PreflightCheck]:
    """Every check of a run."""
    document = plan.manifest.document
    planned_run = Plan(
        inventory=plan.inventory,
        assignment_id=document["assignment_id"],
        grade_scale=document["grade_scale"],
        model=plan.model,
        folder=folder,
    )
    return [
        *local_checks(planned_run),
        *kafka_checks(services.settings),
        *api_checks(services.api, services.content, planned_run),
    ]


def probe(plan: PlannedRun, settings: Settings) -> list[PreflightCheck]:
    """Whether the judge's key is here, and whether the judge answers; ten calls are paid for."""
    today = datetime.now(UTC).date()
    key = key_check(plan.model, settings, today)
    if not key.ok:
        return [key]
    remedy = "read the reason: a wrong key, a model that is not allowed, a limit of the provider"
    return [key, checked("probe", remedy, 1, lambda: probe_judge(plan, settings, today))]


def dry_run(plan: PlannedRun, path: Path, settings: Settings) -> FinishedRun:
    """The whole run in process by the simulated judge; nothing leaves this machine. Raises CJStreamError."""
    manifest = plan.manifest
    collected = simulated_run(
        manifest.id,
        manifest.document,
        request_of(manifest),
        plan.texts,
        manifest.document["planned_at_ms"],
        Simulation(*simulation_of(settings)),
    )
    folder = new_folder(path)
    with folder.locked():
        _begin(folder, plan, InputPaths())
        artefact = write_products(collected, folder)
    return FinishedRun(RunEnd(COMPLETE, "complete", "simulated"), artefact, path)


def execute(
    plan: PlannedRun,
    paths: InputPaths,
    path: Path,
    services: Services,
    progress: ProgressLog,
    *,
    force: bool,
) -> FinishedRun:
    """Preflight, uploads, one request, and what comes of it. Raises CJStreamError if it brings no artefact."""
    refuse_failed(preflight(plan, path, services))
    folder = new_folder(path)
    with folder.locked():
        services.log.also_in(path)
        _begin(folder, plan, paths)
        services.reached("planned done")
        steps = Steps(folder, plan.manifest, services)
        steps.upload(plan.inventory, force=force)
        return _followed(steps, services, progress)


def resume(folder: RunFolder, services: Services, progress: ProgressLog) -> FinishedRun:
    """Go on with a run where its folder says that it stopped. Raises CJStreamError if it brings no artefact."""
    if not (folder.path / STATE).exists():
        raise Malformed(f"{folder.path}: no run began here")
    with folder.locked():
        services.log.also_in(folder.path)
        manifest = folder.manifest()
        know(services, manifest)
        steps = Steps(folder, manifest, services)
        if steps.needs_texts():
            steps.upload(_same_inventory(folder, manifest), force=False)
        return _followed(steps, services, progress)


def report(run: str, path: Path | None, services: Services, progress: ProgressLog) -> FinishedRun:
    """Artefact and report of a run anew, from the log alone; `run` is a folder or a batch id. Raises CJStreamError."""
    settings = services.settings
    known = RunFolder(Path(run))
    is_folder = (known.path / STATE).exists()
    request = request_of_run(settings, known) if is_folder else request_of_batch(settings, run)
    manifest = manifest_from(manifest_in_store(manifest_id_of(request), services))
    target = path or (known.path if is_folder else settings.data_dir / RUNS / run)
    target.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(target)
    with folder.locked():
        know(services, manifest)
        folder.write(MANIFEST, manifest.content)
        return read_again(request, manifest, folder, services, progress)


def know(services: Services, manifest: Manifest) -> None:
    """Put the names of a run into every further log line."""
    document = manifest.document
    services.log.know(
        label=document["label"],
        batch_id=document["batch_id"],
        correlation_id=correlation_id_of(manifest),
    )


def _begin(folder: RunFolder, plan: PlannedRun, paths: InputPaths) -> None:
    """Note what is planned, and where its inputs are."""
    given = {name: getattr(paths, name) for name in INPUT_NAMES}
    inputs = {name: str(path.absolute()) for name, path in given.items() if path is not None}
    folder.write(MANIFEST, plan.manifest.content)
    folder.note(PLANNED, "done", manifest_id=plan.manifest.id, inputs=inputs)


def _same_inventory(folder: RunFolder, manifest: Manifest) -> Inventory:
    """The inputs of a run that was stopped before they were uploaded. Raises Discrepancy if they have changed."""
    noted: dict[str, Any] = folder.facts_of(PLANNED).get("inputs", {})
    paths = InputPaths(**{name: Path(path) for name, path in noted.items()})
    inventory = take_inventory(paths, manifest.document["grade_scale"])
    found = {(text.kind, text.id, text.storage_id, text.grade) for text in inventory.texts}
    planned_texts = {
        (one["kind"], one["id"], one["storage_id"], one["grade"])
        for one in manifest.document["inputs"]
    }
    if changed := sorted({f"{kind} {name}" for kind, name, *_ in found ^ planned_texts}):
        raise Discrepancy(
            f"the inputs are not those that the run began with: {', '.join(changed)}: restore them, or begin a new run"
        )
    return inventory


def _followed(steps: Steps, services: Services, progress: ProgressLog) -> FinishedRun:
    request = steps.publish()
    timeout_s = steps.manifest.document["timeout_seconds"]
    patience = Patience(time.monotonic() + timeout_s, time.monotonic)
    return follow_run(request, steps.manifest, steps.folder, services, progress, patience)
