"""A worker with a limit on its file sizes: its stores fail as on a full disk, without special rights or a mount."""

import resource

from processors.settings import settings_from_environment
from tools.worker import run

COMMAND = ("-m", "tests.faults.small_files")
FILE_BYTES = 64 * 1024


def limit_files() -> None:
    """Limit the files of this process to FILE_BYTES; Python ignores SIGXFSZ, so a larger write raises an error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))


if __name__ == "__main__":
    limit_files()
    run(settings_from_environment())
