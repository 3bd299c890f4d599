"""`--metrics-file`: the state of a run in Prometheus' text format, for the textfile collector of a node exporter."""

from collections.abc import Mapping
from pathlib import Path

from tools.admin.files import replace

METRICS = {
    "cj_run_exit_code": "Exit code of the runner; -1 while it runs",
    "cj_run_texts_uploaded": "Texts that the runner sent to the content store",
    "cj_run_texts_known": "Texts that the content store had already",
    "cj_run_waves": "Waves of comparisons that were planned",
    "cj_run_comparisons_answered": "Comparisons that the judge answered",
    "cj_run_bound": "Lower bound of the reliability, the 5 % quantile of r squared",
    "cj_run_cost_usd": "Money spent, in US dollars",
    "cj_run_duplicates": "Records of the run that came again and were dropped",
    "cj_run_updated_timestamp_seconds": "When this file was written",
}


def write_metrics(path: Path, label: str, values: Mapping[str, float]) -> None:
    """Replace the file; a value that is not known is left out. Raises OSError."""
    escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    lines = [
        line
        for name, help_text in METRICS.items()
        if name in values
        for line in (
            f"# HELP {name} {help_text}",
            f"# TYPE {name} gauge",
            f'{name}{{label="{escaped}"}} {values[name]}',
        )
    ]
    replace(path, ("\n".join(lines) + "\n").encode(), 0o644)
