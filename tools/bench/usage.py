"""Runs a command, and writes down what its processes took: `python -m tools.bench.usage FILE COMMAND…`.

A process of its own, because a child's size begins with that of the process that started it.
"""

import resource
import subprocess
import sys
from pathlib import Path

import orjson


def main(told_in: str, *command: str) -> int:
    """The command's exit code; in the file as JSON: the CPU seconds of all its processes, and the largest in MB."""
    code = subprocess.call(command)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": used.ru_maxrss // 1024,
    }
    Path(told_in).write_bytes(orjson.dumps(told))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
