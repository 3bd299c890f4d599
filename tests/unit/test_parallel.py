"""Work in several processes: everything comes, and a fault of one of them is raised as what it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import CJStreamError, StoreFailed, Unreachable
from tools.audit.parallel import in_processes


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
