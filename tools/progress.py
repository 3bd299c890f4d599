"""Progress for people during long work, on stderr, so that stdout holds only the result.

rich is imported when it is first needed: most commands end sooner than its import would take.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from tools.printing import one_line

Item = TypeVar("Item")


def say(line: str) -> None:
    """Print one line for people, safe for a terminal whatever is in it."""
    with suppress(OSError):  # its terminal or reader is gone, and what it does must go on
        print(one_line(line), file=sys.stderr)  # noqa: T201 (the only place that prints)


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Show what the command waits for: a spinner on a terminal, else one line."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(f"waiting for {what}"):
            yield
    else:
        say(f"waiting for {what}")
        yield


def bar(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The same items, counted by a progress bar if stderr is a terminal."""
    with counted(what, total) as count:
        for item in items:
            yield item
            count(1)


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar if stderr is a terminal; call the function it yields with the number of new items."""
    if not sys.stderr.isatty():
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
