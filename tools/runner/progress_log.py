"""What the runner says while it follows a run: a log line and the metrics file after each wave."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from schemas.judging_events import JudgingEvent, JudgingOpened, WavePlanned
from schemas.models import PUSD_PER_USD, usd_of
from tables.judging.run import Run
from tools.runner.estimate import revised_estimate
from tools.runner.metrics_file import write_metrics
from tools.runner.run_records import RunRecords
from tools.runner.runner_log import RunLog

RUNNING = -1.0


@dataclass(slots=True)
class ProgressLog:
    """Writes the lines of one run. metrics_file: None if none is wanted."""

    log: RunLog
    label: str
    metrics_file: Path | None = None
    manifest_entries: int | None = None  # not known yet
    values: dict[str, float] = field(default_factory=lambda: {"cj_run_exit_code": RUNNING})
    now_s: Callable[[], float] = time

    def on_event(self, records: RunRecords, event: JudgingEvent) -> None:
        """Say what a judging event of the run means."""
        run = records.run
        if isinstance(event, JudgingOpened):
            self.log.know(run_id=event.run_id)
            for warning in event.warnings:
                self.log.warning("runner_progress", warning=warning)
        elif isinstance(event, WavePlanned) and run is not None and len(run.waves) > 1:
            self._wave_ended(records, run)

    def _wave_ended(self, records: RunRecords, run: Run) -> None:
        """One line about the wave before the one that was planned now."""
        wave, scores = len(run.waves) - 1, run.previous
        bound = None if scores is None else round(scores.fit.bound, 4)
        fields: dict[str, Any] = {
            "wave": wave,
            "comparisons": run.planned,
            "bound": bound,
            "spent_usd": usd_of(run.ledger.spent_pusd),
        }
        if wave == 1 and (revised := revised_estimate(run)) is not None:
            fields |= {
                "revised_cost_usd": usd_of(revised.cost_pusd),
                "revised_cost_max_usd": usd_of(revised.cost_max_pusd),
            }
        self.log.write("runner_progress", **fields)
        self.note_run(records, bound)

    def note_run(self, records: RunRecords, bound: float | None) -> None:
        """Write the metrics of a run as far as it was read."""
        run = records.run
        if run is not None:
            self.values |= {
                "cj_run_waves": len(run.waves),
                "cj_run_comparisons_answered": run.answers.count,
                "cj_run_cost_usd": (run.ledger.spent_pusd or 0) / PUSD_PER_USD,
            }
        if bound is not None:
            self.values["cj_run_bound"] = bound
        self.write_metrics(cj_run_duplicates=records.duplicates)

    def write_metrics(self, **values: float) -> None:
        """Replace the metrics file, if one is wanted, with these values changed."""
        self.values |= values
        if self.metrics_file is not None:
            now = {"cj_run_updated_timestamp_seconds": round(self.now_s(), 3)}
            write_metrics(self.metrics_file, self.label, {**self.values, **now})

    def state(self, mode: str, artefact: Mapping[str, Any] | None) -> None:
        """The line that every mode ends with: what was validated."""
        validation = artefact["validation"] if artefact else {}
        self.log.write(
            "runner_validation_state",
            mode=mode,
            manifest_entries=self.manifest_entries,
            artefact_checksum=validation.get("artefact_checksum"),
            schema_valid=artefact is not None or None,
            runner_status=validation.get("runner_status"),
        )
