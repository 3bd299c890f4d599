"""Progress for people during long work, on stderr, so that stdout holds only the result."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, track

Item = TypeVar("Item")


def say(line: str) -> None:
    """Print one line for people."""
    print(line, file=sys.stderr)  # noqa: T201 (the only place that prints)


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Show what the command waits for: a spinner on a terminal, else one line."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(f"waiting for {what}"):
            yield
    else:
        console.print(f"waiting for {what}", markup=False, highlight=False, soft_wrap=True)
        yield


def bar(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The same items, counted by a progress bar if stderr is a terminal."""
    console = Console(stderr=True)
    yield from track(
        items,
        description=what,
        total=total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar if stderr is a terminal; call the function it yields with the number of new items."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
