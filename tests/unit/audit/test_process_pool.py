"""Work in several processes: everything comes, and a fault of one of them is raised as what it was."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import CJStreamError, StoreFailed, Unreachable
from tests.support.until import until
from tools.audit.process_pool import in_processes

LARGE = 10_000_000


def counted(begin: int, end: int) -> Iterator[int]:
    yield from range(begin, end)


def failing(kind: str) -> Iterator[int]:
    yield 1
    if kind == "store":
        raise StoreFailed(f"a folder of {Path('x')}", OSError(28, "No space left on device"))
    if kind == "broker":
        raise Unreachable("nobody there")
    raise SystemExit(7)


def test_what_every_process_gives_comes() -> None:
    assert sorted(in_processes(counted, [(0, 3), (10, 12)])) == [0, 1, 2, 10, 11]


@pytest.mark.parametrize(
    ("kind", "fault", "sentence"),
    [
        ("store", StoreFailed, "a folder of x cannot be read or written: .*No space left"),
        ("broker", Unreachable, "nobody there"),
        ("death", CJStreamError, "a process of the audit died with exit code 7"),
    ],
)
def test_a_fault_of_a_process_is_raised_here(
    kind: str, fault: type[CJStreamError], sentence: str
) -> None:
    with pytest.raises(fault, match=sentence):
        list(in_processes(failing, [(kind,), (kind,)]))


def large(_: int) -> Iterator[object]:
    yield os.getpid()
    yield bytes(LARGE)


def test_a_process_that_is_killed_in_the_middle_of_a_message_is_told() -> None:
    told = in_processes(large, [(0,), (1,)])
    pid = next(told)
    assert isinstance(pid, int)
    until(lambda: state_of(pid) == "S")  # for somebody to read on: a pipe takes less than that
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(CJStreamError, match="a process of the audit died with exit code -9"):
        list(told)


def state_of(pid: int) -> str:
    """`R` for a process that runs, `S` for one that waits."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
