"""Kills a temporary broker and deletes its folder when the process that started it is gone, in whatever way."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A shell script. The end of stdin is the end of this process, also by SIGKILL. An id alone may be that of another
# process by then. A process that was just killed may still write a file
WATCH = """
read -r _
pid=$(cat "$0/$1" 2>/dev/null) &&
    { cat "/proc/$pid/cmdline" 2>/dev/null || ps -o args= -p "$pid"; } | grep -qaF -- "$2" &&
    kill -KILL "$pid"
rm -rf -- "$0" || { sleep 1; rm -rf -- "$0"; }
"""


@contextmanager
def killed_with_this_process(folder: Path, pid_file: str, mark: str) -> Iterator[None]:
    """Watch during the block over the process in the folder's pid file; mark: an argument that only it has."""
    command = ("/bin/sh", "-c", WATCH, str(folder), pid_file, mark)
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield
