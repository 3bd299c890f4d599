"""Work in several processes, where there is enough of it.

What a process yields comes to the caller as it comes, in no order among the processes. A foreseen fault of one of
them is raised here; the others are ended then, as they are when the caller has had enough.
"""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from schemas.errors import CJStreamError

T = TypeVar("T")
WORTH_A_PROCESS = 100_000  # records: it takes a second to start one


def shares(items: Sequence[T], count: int) -> list[list[T]]:
    """The items dealt out to so many, none of them empty."""
    dealt = [list(items[start::count]) for start in range(count)]
    return [one for one in dealt if one]


def processes_for(records: int, most: int | None = None) -> int:
    """How many processes are worth it for so many records."""
    if records < WORTH_A_PROCESS:
        return 1
    return most or os.cpu_count() or 1


def in_processes(
    task: Callable[..., Iterator[T]], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[T]:
    """What the task yields for each of these arguments; a single one is done in this process.

    The task is a module's function; its arguments and what it yields can be pickled. Raises what the task raises
    of CJStreamError, and CJStreamError where a process dies.
    """
    if len(arguments) == 1:
        yield from task(*arguments[0])
        return
    context = multiprocessing.get_context("spawn")
    readers = dict[Connection, Any]()
    try:
        for given in arguments:
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(task, given, writer), daemon=True)
            process.start()
            writer.close()  # ours, so that the reader ends with the process
            readers[reader] = process
        yield from _heard(dict(readers))
    finally:
        for reader, process in readers.items():
            reader.close()
            process.terminate()
            process.join()


def _heard(readers: dict[Connection, Any]) -> Iterator[Any]:
    while readers:
        for reader in wait(list(readers)):
            if not isinstance(reader, Connection):
                continue
            try:
                is_last, said = reader.recv()
            except (EOFError, OSError) as fault:
                readers[reader].join()
                code = readers[reader].exitcode
                raise CJStreamError(f"a process of the audit died with exit code {code}") from fault
            if not is_last:
                yield said
            elif said is None:
                del readers[reader]
            else:
                raise _again(*said)


def _again(kind: type[CJStreamError], sentence: str) -> CJStreamError:
    """A fault of another process; made without its own making, which may take other things than a sentence."""
    fault = kind.__new__(kind)
    fault.args = (sentence,)
    return fault


def _run(task: Callable[..., Iterator[Any]], given: tuple[Any, ...], writer: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    gc.disable()  # it takes a tenth of the time, and values that refer to each other in a ring are not made here
    with suppress(BrokenPipeError):
        try:
            for item in task(*given):
                writer.send((False, item))
            writer.send((True, None))
        except CJStreamError as fault:
            writer.send((True, (type(fault), str(fault))))
