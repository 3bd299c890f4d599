"""Work in several processes, if there is enough of it.

Items arrive in no particular order among the processes. If a process raises a CJStreamError, it is raised here and
the other processes are terminated. They are also terminated when the caller stops iterating.
"""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any, TypeVar

from schemas.errors import CJStreamError

T = TypeVar("T")
GONE = (BrokenPipeError, ConnectionResetError)  # the process at the other end of a connection
MIN_RECORDS = 100_000  # with fewer, one process is faster: starting another takes a second


def split_evenly(items: Sequence[T], count: int) -> list[list[T]]:
    """The items in up to `count` lists, none of them empty."""
    groups = [list(items[start::count]) for start in range(count)]
    return [group for group in groups if group]


def processes_for(records: int, max_processes: int | None = None) -> int:
    """The number of processes to use for this number of records."""
    if records < MIN_RECORDS:
        return 1
    return max_processes or os.cpu_count() or 1


def in_processes(
    arguments: Sequence[tuple[Any, ...]], *tasks: Callable[..., Iterator[T]]
) -> Iterator[T]:
    """The items that the tasks yield for each tuple of arguments, one process for each; a single one runs in this one.

    A task begins when all processes have ended the one before it. Tasks must be functions of one module, arguments and
    items picklable. Raises every CJStreamError that a task raises, and CJStreamError if a process dies.
    """
    if len(arguments) == 1:
        for task in tasks:
            yield from task(*arguments[0])
        return
    context = _context(tasks[0].__module__)
    processes = dict[Connection, Any]()
    try:
        for of_process in arguments:
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(tasks, of_process, theirs), daemon=True)
            process.start()
            theirs.close()  # so that only the process holds it, and we get EOF if that dies
            processes[ours] = process
        for _ in tasks:
            for connection in processes:
                with suppress(*GONE):  # which the next receive shows
                    connection.send(None)
            yield from _received(processes)
    finally:
        for connection, process in processes.items():
            connection.close()
            process.terminate()
            process.join()


def _context(module: str) -> ForkServerContext | SpawnContext:
    """Forks processes from one that has imported the module, unless that cannot have its socket, a temporary file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    try:
        forkserver.ensure_running()
    except OSError:  # such as: no folder may be written, its path is too long
        return multiprocessing.get_context("spawn")
    return context


def _received(processes: Mapping[Connection, Any]) -> Iterator[Any]:
    """The items of one task, until all processes have ended it."""
    working = set(processes)
    while working:
        for connection in wait(list(working)):
            if not isinstance(connection, Connection):
                continue
            try:
                is_last, content = connection.recv()
            except (EOFError, OSError) as fault:
                processes[connection].join()
                code = processes[connection].exitcode
                raise CJStreamError(f"a process of the audit died with exit code {code}") from fault
            if not is_last:
                yield content
            elif content is None:
                working.remove(connection)
            else:
                raise _rebuilt_error(*content)


def _rebuilt_error(kind: type[CJStreamError], message: str) -> CJStreamError:
    """An error of another process; `__init__` is not called, for it may take other arguments than the message."""
    fault = kind.__new__(kind)
    fault.args = (message,)
    return fault


def _run(
    tasks: Sequence[Callable[..., Iterator[Any]]],
    arguments: tuple[Any, ...],
    connection: Connection,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process terminates its children
    gc.disable()  # it costs a tenth of the time, and the tasks create no reference cycles
    with suppress(*GONE):
        try:
            for task in tasks:
                if not _is_to_begin(connection):
                    return
                for item in task(*arguments):
                    connection.send((False, item))
                connection.send((True, None))
        except CJStreamError as fault:
            connection.send((True, (type(fault), str(fault))))


def _is_to_begin(connection: Connection) -> bool:
    """Wait until the next task may begin; whether it may: not if the parent is gone."""
    with suppress(EOFError, *GONE):
        connection.recv()
        return True
    return False
