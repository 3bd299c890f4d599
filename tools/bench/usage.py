"""Runs a command and writes CPU and memory of its processes to a file: `python -m tools.bench.usage FILE COMMAND…`.

It is a separate process because the peak memory of a child includes that of the process that forked it.
"""

import ctypes
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import orjson

PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl


def main(file: str, *command: str) -> int:
    """Run the command; write cpu_s of all its processes and peak_mb of the largest as JSON; returns the exit code."""
    if sys.platform == "linux":
        # the processes that multiprocessing forks end after their parent: they become children of this one
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    code = subprocess.call(command)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    document = {
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": used.ru_maxrss // 1024,
    }
    Path(file).write_bytes(orjson.dumps(document))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
