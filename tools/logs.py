"""Log lines: one JSON object per line on stderr, a fixed phrase and its fields."""

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
    """Format a record as JSON; an exception by class and stack, never with its message or values.

    `common_fields` returns fields that every line gets in addition to its own.
    """

    def __init__(self, common_fields: Callable[[], Mapping[str, Any]] = dict) -> None:
        super().__init__()
        self._common_fields = common_fields

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **self._common_fields(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in STANDARD}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
            line["stack"] = "".join(
                traceback.format_tb(record.exc_info[2])
            )  # file and line only, no values
        return orjson.dumps(line, default=str).decode()


def log_to_stderr(
    level: int = logging.INFO,
    common_fields: Callable[[], Mapping[str, Any]] = dict,
    limit: logging.Filter | None = None,
) -> None:
    """Send every log line of this process that passes the limit to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(common_fields))
    if limit is not None:
        handler.addFilter(limit)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    threading.excepthook = _log_thread_exception


def _log_thread_exception(arguments: threading.ExceptHookArgs) -> None:
    """Log that a thread ended with an exception, instead of printing a traceback to stderr."""
    name = arguments.thread.name if arguments.thread else ""
    fault = arguments.exc_type.__name__
    logging.getLogger("cjstream").warning(
        "thread ended", extra={"name_of_thread": name, "fault": fault}
    )
