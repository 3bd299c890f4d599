"""From a published request to the artefact and the report of its run; and the same again, from the log alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processors.kafka.records import LogRecord
from schemas.errors import CJStreamError, Discrepancy
from tools.runner.artefact_file import write_artefact
from tools.runner.collected_run import CollectedRun
from tools.runner.follow import Patience, collected_run, follow, read_run, records_of
from tools.runner.manifest import Manifest
from tools.runner.progress_log import ProgressLog
from tools.runner.report import report_html
from tools.runner.run_end import RunEnd, end_of
from tools.runner.run_folder import ARTEFACT, REPORT, RunFolder
from tools.runner.run_records import RunRecords
from tools.runner.steps import Services

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run, how it ended, and its artefact."""

    end: RunEnd
    artefact: Document
    folder: Path


def follow_run(
    request: LogRecord,
    manifest: Manifest,
    folder: RunFolder,
    services: Services,
    progress: ProgressLog,
    patience: Patience,
) -> FinishedRun:
    """Follow a run to its end, and write artefact and report. Raises CJStreamError if it brings no artefact."""
    records = records_of(request, services.settings, services.codec)
    follow(services.settings, records, patience, progress.on_event)
    services.reached("followed")
    return _finished(records, manifest, folder, services, progress)


def read_again(
    request: LogRecord,
    manifest: Manifest,
    folder: RunFolder,
    services: Services,
    progress: ProgressLog,
) -> FinishedRun:
    """Artefact and report of a run anew, from what the log has of it now. Raises CJStreamError."""
    records = records_of(request, services.settings, services.codec)
    read_run(services.settings, records)
    return _finished(records, manifest, folder, services, progress)


def _finished(
    records: RunRecords,
    manifest: Manifest,
    folder: RunFolder,
    services: Services,
    progress: ProgressLog,
) -> FinishedRun:
    progress.note_run(records, None)
    end = end_of(records)
    if records.unprepared is not None:
        raise CJStreamError(f"the request of the run was not prepared: {records.unprepared}")
    if records.duplicates:
        progress.log.warning("runner_progress", duplicates=records.duplicates)
    artefact = write_products(collected_run(manifest.id, manifest.document, records), folder)
    services.reached("products done")
    return FinishedRun(end, artefact, folder.path)


def write_products(collected: CollectedRun, folder: RunFolder) -> Document:
    """Write artefact and report of a run; returns the artefact as it was read back. Raises Discrepancy, OSError."""
    artefact = write_artefact(folder.path / ARTEFACT, collected)
    folder.write(REPORT, report_html(artefact))
    return artefact


def manifest_in_store(manifest_id: str | None, services: Services) -> bytes:
    """The manifest that a request names. Raises Discrepancy."""
    if manifest_id is None:
        raise Discrepancy("the request was not sent by `run execute`: it names no manifest")
    return services.content.get(manifest_id)
