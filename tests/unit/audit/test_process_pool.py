"""Work in several processes: every item arrives, and an error in one of them keeps its type."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import CJStreamError, StoreFailed, Unreachable
from tests.support.until import until
from tools.audit.process_pool import in_processes

LARGE_BYTES = 10_000_000


def numbers(start: int, end: int) -> Iterator[int]:
    yield from range(start, end)


def failing(kind: str) -> Iterator[int]:
    yield 1
    if kind == "store":
        raise StoreFailed(f"a folder of {Path('x')}", OSError(28, "No space left on device"))
    if kind == "broker":
        raise Unreachable("nobody there")
    raise SystemExit(7)


def test_the_items_of_every_process_arrive() -> None:
    assert sorted(in_processes([(0, 3), (10, 12)], numbers)) == [0, 1, 2, 10, 11]


def test_they_arrive_where_the_path_of_temporary_files_is_too_long_for_a_socket(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    code = f"from {__name__} import *; print(sorted(in_processes([(0, 2), (7, 9)], numbers)))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("[0, 1, 7, 8]\n", "")


@pytest.mark.parametrize(
    ("kind", "fault", "message"),
    [
        ("store", StoreFailed, "a folder of x cannot be read or written: .*No space left"),
        ("broker", Unreachable, "nobody there"),
        ("death", CJStreamError, "a process of the audit died with exit code 7"),
    ],
)
def test_an_error_in_a_process_is_raised_in_the_parent(
    kind: str, fault: type[CJStreamError], message: str
) -> None:
    with pytest.raises(fault, match=message):
        list(in_processes([(kind,), (kind,)], failing))


def ends(folder: Path, number: int) -> Iterator[int]:
    """The first process ends only when the second one may have begun the next task."""
    if number == 0:
        until((folder / "second-has-ended").exists)
    (folder / f"ended-{number}").touch()
    yield os.getpid()


def sees_others(folder: Path, number: int) -> Iterator[int]:
    yield os.getpid() if (folder / f"ended-{1 - number}").exists() else -1


def test_a_task_begins_in_the_same_processes_when_all_have_ended_the_one_before(
    tmp_path: Path,
) -> None:
    items = in_processes([(tmp_path, 0), (tmp_path, 1)], ends, sees_others)
    second = next(items)
    (tmp_path / "second-has-ended").touch()
    first, *pids = items
    assert sorted(pids) == sorted([first, second])
    assert os.getpid() not in pids


def own_id(_: int) -> Iterator[int]:
    yield os.getpid()


def test_a_process_that_is_killed_between_two_tasks_is_reported() -> None:
    items = in_processes([(0,), (1,)], own_id, own_id)
    pids = [next(items), next(items)]
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(CJStreamError, match="a process of the audit died with exit code -9"):
        list(items)


def large_items(_: int) -> Iterator[object]:
    yield os.getpid()
    yield bytes(LARGE_BYTES)


def test_a_process_that_is_killed_while_it_sends_is_reported() -> None:
    items = in_processes([(0,), (1,)], large_items)
    pid = next(items)
    assert isinstance(pid, int)
    until(lambda: state_of(pid) == "S")  # waits for the reader: the item is larger than the pipe
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(CJStreamError, match="a process of the audit died with exit code -9"):
        list(items)


def state_of(pid: int) -> str:
    """The state of a process: `R` if it is running, `S` if it is waiting."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
