"""Atomic file writes: a temporary file is renamed, so that no reader sees half of the content."""

import os
from pathlib import Path
from uuid import uuid4

from schemas.errors import CJStreamError


def replace(path: Path, content: bytes, mode: int) -> None:
    """Create or replace a file atomically. Raises OSError; the old file then stays as it was."""
    partial = path.parent / f".{uuid4().hex}.tmp"
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_exactly(file: str, text: str) -> None:
    """Write exactly the text in UTF-8, all or nothing, and create missing parent folders. Raises CJStreamError."""
    try:
        path = Path(file).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
            path.write_bytes(text.encode())
        else:
            replace(path, text.encode(), 0o666)
    except (OSError, ValueError) as fault:
        cause = getattr(fault, "strerror", None) or "not a valid file name"
        raise CJStreamError(f"cannot write {file}: {cause}") from fault
