"""A bound on the log lines that clients can cause without a token: warnings, and requests of nobody."""

import logging
import time
from collections.abc import Callable

MAX_LINES_PER_S = 20  # of each phrase
MAX_PHRASES = 1000


class LineLimit(logging.Filter):
    """Drops lines above the limit of their phrase; the next line that passes says how many in `suppressed`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seconds: dict[tuple[str, str], tuple[int, int]] = {}  # the second, and its lines

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        if record.levelno < logging.WARNING and not self._is_request_of_nobody(record):
            return True
        # asyncio puts variable details into further lines
        phrase, second = (record.name, str(record.msg).partition("\n")[0]), int(self._clock())
        of_second, lines = self._seconds.pop(phrase, (second, 0))
        if of_second != second:
            if lines > MAX_LINES_PER_S:
                record.suppressed = lines - MAX_LINES_PER_S
            lines = 0
        self._seconds[phrase] = (second, lines + 1)
        if len(self._seconds) > MAX_PHRASES:
            del self._seconds[next(iter(self._seconds))]
        return lines < MAX_LINES_PER_S

    def _is_request_of_nobody(self, record: logging.LogRecord) -> bool:
        return record.msg == "HTTP request" and not hasattr(record, "actor")
