"""Log lines: one JSON object a line on stderr, a fixed phrase and its fields."""

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A record as JSON; exceptions by class and place, never with values of theirs.

    always gives what every line says beside its own fields.
    """

    def __init__(self, always: Callable[[], Mapping[str, Any]] = dict) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **self._always(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in STANDARD}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
            line["stack"] = "".join(traceback.format_tb(record.exc_info[2]))  # places, no values
        return orjson.dumps(line, default=str).decode()


def log_to_stderr(
    level: int = logging.INFO, always: Callable[[], Mapping[str, Any]] = dict
) -> None:
    """Send every log line of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(always))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    threading.excepthook = _thread_ended


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """A library's thread that ends with an exception is a line, too, and no traceback on stderr."""
    name = ended.thread.name if ended.thread else ""
    fault = ended.exc_type.__name__
    logging.getLogger("cjstream").warning(
        "thread ended", extra={"name_of_thread": name, "fault": fault}
    )
