"""Work in several processes, if there is enough of it.

Items arrive in no particular order among the processes. If a process raises a CJStreamError, it is raised here and
the other processes are terminated. They are also terminated when the caller stops iterating.
"""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any, TypeVar

from schemas.errors import CJStreamError

T = TypeVar("T")
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
    task: Callable[..., Iterator[T]], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[T]:
    """The items that the task yields for each tuple of arguments; a single one runs in this process.

    The task must be a module's function; its arguments and items must be picklable. Raises every CJStreamError
    that the task raises, and CJStreamError if a process dies.
    """
    if len(arguments) == 1:
        yield from task(*arguments[0])
        return
    context = _context(task.__module__)
    readers = dict[Connection, Any]()
    try:
        for task_arguments in arguments:
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(task, task_arguments, writer), daemon=True)
            process.start()
            writer.close()  # so that only the process holds it, and the reader gets EOF if that dies
            readers[reader] = process
        yield from _received(dict(readers))
    finally:
        for reader, process in readers.items():
            reader.close()
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


def _received(readers: dict[Connection, Any]) -> Iterator[Any]:
    while readers:
        for reader in wait(list(readers)):
            if not isinstance(reader, Connection):
                continue
            try:
                is_last, content = reader.recv()
            except (EOFError, OSError) as fault:
                readers[reader].join()
                code = readers[reader].exitcode
                raise CJStreamError(f"a process of the audit died with exit code {code}") from fault
            if not is_last:
                yield content
            elif content is None:
                del readers[reader]
            else:
                raise _rebuilt_error(*content)


def _rebuilt_error(kind: type[CJStreamError], message: str) -> CJStreamError:
    """An error of another process; `__init__` is not called, for it may take other arguments than the message."""
    fault = kind.__new__(kind)
    fault.args = (message,)
    return fault


def _run(
    task: Callable[..., Iterator[Any]], task_arguments: tuple[Any, ...], writer: Connection
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process terminates its children
    gc.disable()  # it costs a tenth of the time, and the tasks create no reference cycles
    with suppress(BrokenPipeError):
        try:
            for item in task(*task_arguments):
                writer.send((False, item))
            writer.send((True, None))
        except CJStreamError as fault:
            writer.send((True, (type(fault), str(fault))))
