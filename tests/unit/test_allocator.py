"""Memory that was freed is used again: the kernel does not give the same pages anew."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import resource, sys
from processors.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else True
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def batch():
    return [b"x" * (1 << 20) for _ in range(16)]
batch()
before = faults()
for _ in range(10):
    batch()
print(kept, faults() - before)
"""


@pytest.mark.parametrize("keeps", ["keep", "default"])
def test_a_batch_uses_the_memory_of_the_one_before(keeps: str) -> None:
    command = [sys.executable, "-c", CODE, keeps]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    is_set, faults = done.stdout.split()
    assert is_set == "True"
    pages_of_ten_batches = 10 * (16 << 20) // 4096
    assert (int(faults) < pages_of_ten_batches / 10) == (keeps == "keep")
