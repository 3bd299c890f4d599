"""A worker whose files may not grow: to its stores that is a full disk, and it needs no rights and no disk."""

import resource

from processors.settings import settings_from_environment
from tools.worker import run

COMMAND = ("-m", "tests.faults.small_files")
FILE_BYTES = 64 * 1024


def limit_files() -> None:
    """Let no file of this process grow past that; Python has SIGXFSZ ignored, so that a write fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))


if __name__ == "__main__":
    limit_files()
    run(settings_from_environment())
