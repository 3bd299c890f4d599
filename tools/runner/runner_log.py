"""The log lines of the runner: JSON on stderr and in the run's folder, with the names of the run in each."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.logs import JsonLines, log_to_stderr

LOG_FILE = "log.jsonl"
LEVELS = ("debug", "info", "warning", "error")
log = logging.getLogger("cjstream.run")


@dataclass(slots=True)
class RunLog:
    """Writes the runner's log lines; the names that are known of the run are in every line."""

    names: dict[str, str | None] = field(
        default_factory=lambda: dict.fromkeys(("label", "run_id", "batch_id", "correlation_id"))
    )

    def start(self, level: str) -> None:
        """Send the lines of this process to stderr."""
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each text
        log_to_stderr(getattr(logging, level.upper()), self._common_fields)

    def also_in(self, folder: Path) -> None:
        """Append the lines to a file of the run's folder, too."""
        handler = logging.FileHandler(folder / LOG_FILE, encoding="utf-8")
        handler.setFormatter(JsonLines(self._common_fields))
        logging.getLogger().addHandler(handler)

    def know(self, **names: str) -> None:
        """Put these names into every further line."""
        self.names |= names

    def write(self, phrase: str, **fields: Any) -> None:
        """Write one line."""
        log.info(phrase, extra=fields)

    def warning(self, phrase: str, **fields: Any) -> None:
        """Write one line about a side door that was used."""
        log.warning(phrase, extra=fields)

    def _common_fields(self) -> Mapping[str, Any]:
        return self.names
