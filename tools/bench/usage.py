"""Runs a command and writes CPU and memory of its processes to a file: `python -m tools.bench.usage FILE COMMAND…`.

It is a separate process because the peak memory of a child includes that of the process that forked it.
"""

import resource
import subprocess
import sys
from pathlib import Path

import orjson


def main(file: str, *command: str) -> int:
    """Run the command; write cpu_s of all its processes and peak_mb of the largest as JSON; returns the exit code."""
    code = subprocess.call(command)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    document = {
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": used.ru_maxrss // 1024,
    }
    Path(file).write_bytes(orjson.dumps(document))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
