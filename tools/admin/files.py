"""Writing a file as a whole: aside first, then renamed, so that nobody ever sees half of it."""

import os
from pathlib import Path
from uuid import uuid4

from schemas.errors import CJStreamError


def replace(path: Path, content: bytes, mode: int) -> None:
    """Make or replace a file. Raises OSError, and leaves what was there."""
    aside = path.parent / f".{uuid4().hex}.tmp"
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_exactly(file: str, text: str) -> None:
    """Exactly the text, UTF-8, all or nothing; parents are made. Raises CJStreamError."""
    try:
        path = Path(file).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
            path.write_bytes(text.encode())
        else:
            replace(path, text.encode(), 0o666)
    except (OSError, ValueError) as fault:
        cause = getattr(fault, "strerror", None) or "no file name"
        raise CJStreamError(f"cannot write {file}: {cause}") from fault
